import { plain, type Terminal } from '../terminal.ts'
import type { GraphNode, PipelineGraph } from './graph.ts'

const COLOURS = { source: 'cyan', operator: undefined, side: 'yellow', sink: 'green' } as const

/** The graph as a tree, for a terminal: from each source down. What has several inputs stands under its first one. */
export function treeOf({ pipeline, nodes, edges }: PipelineGraph, on: Pick<Terminal, 'style'>): string {
  const lines: string[] = [on.style('bold', pipeline), '']
  const shown = new Set<number>()

  const say = ({ role, title, lines: more }: GraphNode, label: string, again: boolean) => {
    const colour = COLOURS[role]
    const name = `${role === 'sink' ? '→ ' : role === 'side' ? '… ' : ''}${plain(title)}`
    const about = again ? ['see above'] : more.map(plain)
    const text = [
      colour ? on.style(colour, name) : name,
      ...(about.length > 0 ? [on.style('dim', about.join(' · '))] : []),
    ]
    return `${label === '' ? '' : `(${plain(label)}) `}${text.join('  ')}`
  }
  const visit = (node: GraphNode, label: string, before: string, branch: string, below: string) => {
    const again = shown.has(node.id)
    lines.push(`${before}${branch}${say(node, label, again)}`)
    if (again) return
    shown.add(node.id)
    const next = edges.filter(({ from }) => from === node.id)
    for (const [i, { to, label: input }] of next.entries()) {
      const last = i === next.length - 1
      visit(nodes[to]!, input, before + below, last ? '└─ ' : '├─ ', last ? '   ' : '│  ')
    }
  }
  for (const source of nodes.filter(({ role }) => role === 'source')) {
    visit(source, '', '', '', '')
    lines.push('')
  }
  return lines.join('\n')
}
