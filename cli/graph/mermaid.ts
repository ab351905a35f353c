import type { GraphNode, PipelineGraph } from './graph.ts'

const SHAPES = { source: ['([', '])'], operator: ['[', ']'], side: ['{{', '}}'], sink: ['[(', ')]'] } as const

/** The graph as Mermaid, which pages of Markdown show as a picture. */
export function mermaidOf({ pipeline, nodes, edges }: PipelineGraph): string {
  const box = ({ id, role, title, lines }: GraphNode) => {
    const [open, close] = SHAPES[role]
    const text = [`<b>${escaped(title)}</b>`, ...lines.map(escaped)].join('<br/>')
    return `  n${id}${open}"${text}"${close}:::${role}`
  }
  return [
    '---',
    `title: ${JSON.stringify(pipeline)}`,
    '---',
    'flowchart TB',
    ...nodes.map(box),
    ...edges.map(({ from, to, label }) => `  n${from} -->${label === '' ? '' : `|"${escaped(label)}"|`} n${to}`),
    '  classDef source stroke:#0b7285,stroke-width:2px',
    '  classDef side stroke:#b08800,stroke-dasharray:4',
    '  classDef sink stroke:#2b8a3e,stroke-width:2px',
    '',
  ].join('\n')
}

/** All that Mermaid, its Markdown or HTML could take for its own becomes a character's number. */
function escaped(text: string): string {
  return text.replace(/[^\p{L}\p{N} .,:+-]/gu, (character) => `#${character.codePointAt(0)};`)
}
