import { MillraceError } from './errors.ts'
import { compile, inputsOf, MAIN, type Plan, type PlanNode } from './plan.ts'
import type { Sink } from './sink.ts'
import type { Source } from './source.ts'
import { nodeOf, type OutputNode, type StreamNode, streamOf } from './stream.ts'

/** What a channel's end may stage before its task takes no further records. */
const LANE = { maxStaged: '1GB', maxAge: undefined, whenFull: 'pause' } as const

/**
 * Cuts a pipeline at its channels: a stage is what hangs together without them (engine rule 1), and runs as tasks of its
 * own. Stages come in the order in which records go through them; a pipeline without a channel is one.
 *
 * @throws MillraceError BAD_PIPELINE when records would come back to the stage that sent them
 */
export function stagesOf(plan: Plan): readonly Plan[] {
  const cuts = plan.nodes.filter(isCut)
  if (cuts.length === 0) return [plan]
  const group = groupsOf(plan)
  const order = ordered(plan, cuts, group)
  return order.map((stage) => stagePlan(plan, cuts, group, stage))
}

type Cut = PlanNode & { node: StreamNode & { kind: 'operator' } }

function isCut(planned: PlanNode): planned is Cut {
  return planned.node.kind === 'operator' && planned.node.definition.channel !== undefined
}

/** For each node, the node that stands for its stage; a cut belongs to the stage behind it. All without a cut before them are one. */
function groupsOf(plan: Plan): (id: number) => number {
  const parent = plan.nodes.map((_, id) => id)
  const root = (id: number): number => (parent[id] === id ? id : (parent[id] = root(parent[id]!)))
  const join = (a: number, b: number) => {
    const [first, second] = [root(a), root(b)]
    parent[Math.max(first, second)] = Math.min(first, second)
  }
  for (const node of plan.nodes) if (!isCut(node)) for (const input of node.inputs) join(node.id, input)
  const behind = new Set(plan.nodes.filter(isCut).map(({ id }) => root(id)))
  const before = plan.nodes.filter(({ id }) => !behind.has(root(id)))
  for (const { id } of before) join(id, before[0]!.id)
  return root
}

function ordered(plan: Plan, cuts: readonly Cut[], group: (id: number) => number): number[] {
  const all = [...new Set(plan.nodes.map(({ id }) => group(id)))]
  const order: number[] = []
  while (order.length < all.length) {
    const next = all.find(
      (stage) =>
        !order.includes(stage) && cuts.every((cut) => group(cut.id) !== stage || order.includes(group(cut.inputs[0]!))),
    )
    if (next === undefined) {
      const back = cuts.find((cut) => !order.includes(group(cut.id)) && !order.includes(group(cut.inputs[0]!)))!
      throw new MillraceError(
        'BAD_PIPELINE',
        `pipeline "${plan.pipeline}": ${back.name} brings records to other partitions, and behind it they meet a stream that it was made of, which is still where its source put it: bring that stream to the same key, too, with a repartition of its own`,
      )
    }
    order.push(next)
  }
  return order
}

function stagePlan(plan: Plan, cuts: readonly Cut[], group: (id: number) => number, stage: number): Plan {
  const entering = cuts.filter((cut) => group(cut.id) === stage)
  const leaving = cuts.filter((cut) => group(cut.inputs[0]!) === stage)
  const ids = new Map(plan.nodes.map(({ node, id }) => [node, id]))
  const done = new Map<StreamNode, StreamNode>()
  /** The same node in this stage: what a channel brings is a source here. */
  const within = (node: StreamNode): StreamNode => {
    const known = done.get(node)
    if (known) return known
    const cut = entering.find(({ id }) => id === ids.get(node))
    const made = cut ? farEnd(cut) : entering.length === 0 ? node : again(node, within)
    done.set(node, made)
    return made
  }
  const outputs: Record<string, OutputNode> = {}
  for (const { name, node, input } of plan.outputs)
    if (group(input) === stage) outputs[name] = { ...node, input: within(node.input) }
  for (const cut of leaving) {
    if (cut.name in outputs || plan.outputs.some(({ name }) => name === cut.name))
      throw new MillraceError(
        'BAD_PIPELINE',
        `pipeline "${plan.pipeline}": an output and a channel are called "${cut.name}": give one of them another name`,
      )
    outputs[cut.name] = nearEnd(cut, { ...cut.node, input: within(cut.node.input) })
  }
  return compile(plan.pipeline, outputs, entering[0]?.name ?? MAIN)
}

function again(node: StreamNode, within: (node: StreamNode) => StreamNode): StreamNode {
  switch (node.kind) {
    case 'source':
      return node
    case 'merge':
      return { ...node, inputs: inputsOf(node).map(within) }
    case 'side':
      return { ...node, of: within(node.of) as StreamNode & { kind: 'operator' } }
    case 'foreign':
      return { ...node, input: within(node.input) }
    case 'operator': {
      const { definition } = node
      const right =
        definition.right === undefined
          ? undefined
          : streamOf(within(nodeOf(definition.right, `${definition.kind}: its second input`)))
      return {
        ...node,
        input: within(node.input),
        definition: right === undefined ? definition : { ...definition, right },
      }
    }
  }
}

/** The worker opens a channel's ends itself, when it knows how many partitions it has. */
const unopened = {
  open: () => Promise.reject(new MillraceError('INTERNAL', 'the end of a channel was opened as a connector')),
}

function channelOf({ name, node }: Cut) {
  return { name, partitions: node.definition.channel!.partitions }
}

function nearEnd(cut: Cut, input: StreamNode): OutputNode {
  const to: Sink<any> = { kind: 'channel', guarantee: 'idempotent', touches: 'state', ...unopened }
  return { sink: to.kind, input, to, lane: LANE, channel: channelOf(cut) }
}

function farEnd(cut: Cut): StreamNode {
  const source: Source = { kind: 'channel', name: cut.name, ...unopened }
  const inside = () => {
    throw new MillraceError('INTERNAL', 'a channel gives its records with their keys and times')
  }
  const options = { schema: undefined, key: inside, time: inside }
  return { kind: 'source', name: cut.name, source, options, lateness: 0, channel: channelOf(cut) }
}
