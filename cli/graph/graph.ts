import { type Pipeline, planOf } from '../../core/pipeline.ts'
import type { StateDeclaration } from '../../core/state.ts'
import type { StreamNode } from '../../core/stream.ts'
import { lineAt, type SourceText } from '../check/source-text.ts'
import type { Parts } from '../watched.ts'

/** A box of the picture. */
export interface GraphNode {
  readonly id: number
  readonly role: 'source' | 'operator' | 'side' | 'sink'
  /** What its author calls it. */
  readonly title: string
  /** What kind it is, and what there is to know of it: a line each. */
  readonly lines: readonly string[]
}

export interface GraphEdge {
  readonly from: number
  readonly to: number
  /** What tells this input from others; empty for most. */
  readonly label: string
}

/** A pipeline as it is drawn: what gives comes before what takes. */
export interface PipelineGraph {
  readonly pipeline: string
  readonly nodes: readonly GraphNode[]
  readonly edges: readonly GraphEdge[]
}

export interface GraphOptions {
  readonly parts: Parts
  readonly env: Readonly<Record<string, string | undefined>>
  /** The author's files, for the names of schemas. */
  readonly texts: readonly SourceText[]
}

/** What names the real system of a stand-in in the environment. */
const VARIABLES: Readonly<Record<string, string>> = {
  kafka: 'KAFKA_BROKERS',
  clickhouse: 'CLICKHOUSE_URL',
  redis: 'REDIS_URL',
}

/** The graph of a pipeline. */
export function graphOf(pipeline: Pipeline, { parts, env, texts }: GraphOptions): PipelineGraph {
  const { plan } = planOf(pipeline)
  const edges: GraphEdge[] = []
  const taken = new Set(
    plan.nodes.flatMap(({ node }) => (node.kind === 'side' ? [`${idOf(node.of)} ${node.name}`] : [])),
  )

  function idOf(node: StreamNode): number {
    return plan.nodes.findIndex((each) => each.node === node)
  }
  const real = (system: string | undefined, part: object): string[] => {
    if (system === undefined) return []
    const named = env[VARIABLES[system] ?? ''] !== undefined || parts.optionsOf(part)?.url !== undefined
    return [named ? 'real' : 'stand-in']
  }
  const boxed = (node: StreamNode, id: number): Omit<GraphNode, 'id' | 'title'> => {
    switch (node.kind) {
      case 'source': {
        const { kind, system } = node.source
        const schema = schemaName(node, parts, texts)
        return {
          role: 'source',
          lines: [
            [kind, ...real(system, node.source)].join(', '),
            ...(schema === undefined ? [] : [`schema ${schema}`]),
            ...(node.lateness > 0 ? [`lateness ${lasting(node.lateness)}`] : []),
          ],
        }
      }
      case 'operator': {
        const { kind, state = {}, sides = [], work, channel } = node.definition
        const unused = sides.filter((side) => !taken.has(`${id} ${side}`))
        return {
          role: 'operator',
          lines: [
            ...(kind === plan.nodes[id]!.name ? [] : [kind]),
            ...Object.entries(state).map(([name, piece]) => `${name}: ${pieceOf(piece)}`),
            ...(channel ? [`${channelOf(channel.partitions, env)}: a new stage`] : []),
            ...(work ? [`${work.concurrency} calls at once, ${lasting(work.timeout)} each`] : []),
            ...(unused.length > 0 ? [`lays aside, unused: ${unused.join(', ')}`] : []),
          ],
        }
      }
      case 'side':
        return { role: 'side', lines: ['side stream'] }
      case 'merge':
        return { role: 'operator', lines: ['by event time'] }
      case 'foreign':
        return { role: 'operator', lines: ['RxJS'] }
    }
  }

  const nodes = plan.nodes.map(({ node, id, name, inputs }): GraphNode => {
    for (const [i, from] of inputs.entries()) {
      const label =
        node.kind === 'merge' ? (node.names?.[i] ?? '') : inputs.length > 1 ? (i === 0 ? 'left' : 'right') : ''
      edges.push({ from, to: id, label })
    }
    const title = node.kind === 'side' ? node.name : node.kind === 'foreign' ? 'RxJS operator' : name
    return { id, title, ...boxed(node, id) }
  })
  const sinks = plan.outputs.map(({ name, node, input }, i): GraphNode => {
    const { kind, guarantee, touches, system } = node.to
    const id = nodes.length + i
    edges.push({ from: input, to: id, label: '' })
    return {
      id,
      role: 'sink',
      title: name,
      lines: [
        [kind, ...real(system, node.to)].join(', '),
        guarantee === 'ledger' ? 'ledger: at least once' : guarantee,
        ...(touches === 'people' ? ['reaches people'] : []),
      ],
    }
  })
  return { pipeline: pipeline.name, nodes: [...nodes, ...sinks], edges }
}

function channelOf(partitions: number | undefined, env: Readonly<Record<string, string | undefined>>): string {
  const log = env.KAFKA_BROKERS ? 'a topic' : 'a log'
  return partitions === undefined ? log : `${log} of ${partitions} partitions`
}

function pieceOf(piece: StateDeclaration): string {
  if (piece.kind === 'timers') return `timers, by ${piece.clock === 'event' ? 'event' : 'processing'} time`
  if (piece.kind === 'table') return `table, ${lasting(piece.ttl)}`
  return `set, ${lasting(piece.within)}`
}

/** Three thousand years: what is kept so long is meant to be kept. */
const AGES = 1e14

/** `30d`, `24h`, `1m`: as an author writes it, to the largest unit that it is a hundredth beyond at most. */
function lasting(milliseconds: number): string {
  if (milliseconds >= AGES) return 'for ever'
  const units = [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['m', 60_000],
    ['s', 1_000],
  ] as const
  for (const [unit, size] of units) {
    const amount = milliseconds / size
    if (amount >= 1 && Math.abs(amount - Math.round(amount)) < 0.01) return `${Math.round(amount)}${unit}`
  }
  return `${milliseconds}ms`
}

/** What the author calls a source's schema: a schema does not know its name. */
function schemaName(
  node: StreamNode & { kind: 'source' },
  parts: Parts,
  texts: readonly SourceText[],
): string | undefined {
  const place = parts.siteOf(node)
  const source = texts.find(({ file }) => file === place?.file)
  if (!place || !source) return undefined
  const lines = source.code.split('\n').slice(place.line - 1)
  const found = /\bschema\s*(?::\s*([A-Za-z_$][\w$]*)\s*[,}\n]|,)/.exec(lines.join('\n'))
  if (!found || lineAt(lines.join('\n'), found.index) > 12) return undefined
  return found[1] ?? (found[0].includes(':') ? undefined : 'schema')
}
