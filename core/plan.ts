import { shown } from './duration.ts'
import { MillraceError } from './errors.ts'
import { nodeOf, type OutputNode, type StreamNode } from './stream.ts'

/** The stage that reads the pipeline's own sources. */
export const MAIN = 'main'

/** A node of the graph that runs, in topological order: inputs come before it. */
export interface PlanNode {
  readonly id: number
  readonly node: StreamNode
  /** Its name in messages and, when it keeps state, in the store. */
  readonly name: string
  readonly inputs: readonly number[]
  /** The synchronous segment that it works in, and the one that its output enters (engine rule 7). */
  readonly level: number
  readonly outLevel: number
}

export interface PlanOutput {
  readonly name: string
  readonly node: OutputNode
  readonly input: number
  readonly level: number
}

/** A pipeline, or one stage of it, ordered and named. */
export interface Plan {
  readonly pipeline: string
  /** `main`; behind a channel, the channel's name. */
  readonly stage: string
  readonly nodes: readonly PlanNode[]
  readonly sources: readonly (PlanNode & { node: StreamNode & { kind: 'source' } })[]
  readonly outputs: readonly PlanOutput[]
  /** How many synchronous segments there are. */
  readonly levels: number
  /** Slot names of all state, with their formats' kinds: what stored state is compared with. */
  readonly slots: Readonly<Record<string, string>>
}

/**
 * Orders and names the graph between sources and outputs.
 *
 * @throws MillraceError BAD_PIPELINE
 */
export function compile(pipeline: string, outputs: Readonly<Record<string, OutputNode>>, stage = MAIN): Plan {
  const nodes: PlanNode[] = []
  const known = new Map<StreamNode, PlanNode>()
  const slots: Record<string, string> = {}
  const kinds = new Map<string, number>()
  const channels = new Set<string>()

  const visit = (node: StreamNode): PlanNode => {
    const before = known.get(node)
    if (before) return before
    const inputs = inputsOf(node).map(visit)
    const level = Math.max(0, ...inputs.map((input) => input.outLevel))
    const waits = node.kind === 'operator' && node.definition.work !== undefined
    const outLevel = node.kind === 'side' ? inputs[0]!.outLevel : waits ? level + 1 : level
    const made = {
      id: nodes.length,
      node,
      name: nameOf(node),
      inputs: inputs.map((input) => input.id),
      level: node.kind === 'side' ? outLevel : level,
      outLevel,
    }
    nodes.push(made)
    known.set(node, made)
    return made
  }

  const nameOf = (node: StreamNode): string => {
    if (node.kind === 'foreign') return node.label
    if (node.kind === 'merge') return 'merge'
    if (node.kind === 'side') return `side ${node.name}`
    if (node.kind === 'source') return node.name
    const { definition } = node
    if (definition.plainOnly !== undefined)
      throw new MillraceError('BAD_PIPELINE', `pipeline "${pipeline}": ${definition.kind}: ${definition.plainOnly}`)
    const wanted = definition.name ?? definition.kind
    if (definition.channel) {
      if (channels.has(wanted))
        throw new MillraceError(
          'BAD_PIPELINE',
          `pipeline "${pipeline}": two channels are called "${wanted}", and would share their log: give one of them a name of its own, as in ${definition.kind}(by, { name: '${definition.kind}-2' })`,
        )
      channels.add(wanted)
      return wanted
    }
    const state = Object.entries(definition.state ?? {})
    if (state.length > 0) {
      for (const [piece, declaration] of state) {
        const slot = `${wanted}/${piece}`
        if (slot in slots) {
          throw new MillraceError(
            'BAD_PIPELINE',
            `pipeline "${pipeline}": two operators are called "${wanted}", and would share their state: give one of them a name of its own, as in ${definition.kind}({ name: '${definition.kind}-2', … })`,
          )
        }
        slots[slot] = declaration.kind
      }
      return wanted
    }
    const count = (kinds.get(wanted) ?? 0) + 1
    kinds.set(wanted, count)
    return count === 1 ? wanted : `${wanted}#${count}`
  }

  const planned = Object.entries(outputs).map(([name, node]): PlanOutput => {
    if (!/^[A-Za-z0-9][A-Za-z0-9_-]*$/.test(name))
      throw new MillraceError(
        'BAD_PIPELINE',
        `pipeline "${pipeline}": an output's name must be of letters, digits, - and _, got ${shown(name)}`,
      )
    if (typeof node?.to?.open !== 'function')
      throw new MillraceError(
        'BAD_PIPELINE',
        `pipeline "${pipeline}": output "${name}" must end in .to(sink), got ${shown(node)}`,
      )
    const input = visit(node.input)
    return { name, node, input: input.id, level: input.outLevel }
  })
  if (planned.length === 0)
    throw new MillraceError(
      'BAD_PIPELINE',
      `pipeline "${pipeline}" has no outputs: end at least one branch in .to(sink)`,
    )
  const sources = nodes.filter(
    (n): n is PlanNode & { node: StreamNode & { kind: 'source' } } => n.node.kind === 'source',
  )
  for (const [i, source] of sources.entries()) {
    if (sources.findIndex((other) => other.name === source.name) !== i) {
      throw new MillraceError(
        'BAD_PIPELINE',
        `pipeline "${pipeline}": two sources are called "${source.name}": use one stream for both, or give one a name of its own`,
      )
    }
  }
  return {
    pipeline,
    stage,
    nodes,
    sources,
    outputs: planned,
    levels: Math.max(...nodes.map((n) => n.outLevel)) + 1,
    slots,
  }
}

export function inputsOf(node: StreamNode): readonly StreamNode[] {
  switch (node.kind) {
    case 'source':
      return []
    case 'merge':
      return node.inputs
    case 'side':
      return [node.of]
    case 'foreign':
      return [node.input]
    case 'operator':
      return node.definition.right === undefined
        ? [node.input]
        : [node.input, nodeOf(node.definition.right, `${node.definition.kind}: its second input`)]
  }
}
