import { Graph, layout } from '@dagrejs/dagre'
import { fit, plain, widthOf } from '../terminal.ts'
import type { GraphNode, PipelineGraph } from './graph.ts'

/** Pixels. A letter of the fonts below is 0.6 of its height wide, at most. */
const TITLE = { size: 13, letter: 7.9, height: 18 }
const LINE = { size: 11, letter: 6.7, height: 15 }
const PADDING = { x: 14, y: 9 }
const MARGIN = 20
const HEAD = 30
/** Letters of the longest line of a box. */
const WIDEST = 40

const STYLE = `
  svg { --ground: #ffffff; --ink: #1f2328; --soft: #59636e; --edge: #8c959f; --box: #f6f8fa; --source: #0b7285; --side: #9a6700; --sink: #1a7f37; }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #0d1117; --ink: #e6edf3; --soft: #9198a1; --edge: #6e7681; --box: #161b22; --source: #56c2d6; --side: #d9a520; --sink: #4ac26b; }
  }
  .ground { fill: var(--ground); }
  .box { fill: var(--box); stroke: var(--edge); stroke-width: 1; }
  .source .box { stroke: var(--source); stroke-width: 2; }
  .side .box { stroke: var(--side); stroke-dasharray: 5 3; }
  .sink .box { stroke: var(--sink); stroke-width: 2; }
  .edge { fill: none; stroke: var(--edge); stroke-width: 1.5; }
  .head { fill: var(--edge); }
  text { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: var(--ink); }
  .title { font-size: ${TITLE.size}px; font-weight: 600; }
  .line, .label { font-size: ${LINE.size}px; fill: var(--soft); }
  .label { paint-order: stroke; stroke: var(--ground); stroke-width: 4px; text-anchor: middle; }
`

interface Box extends GraphNode {
  readonly width: number
  readonly height: number
}

/** The graph as a picture that needs nothing else, in the colours that its reader's system asks for. */
export function svgOf({ pipeline, nodes, edges }: PipelineGraph): string {
  const boxes = nodes.map(boxOf)
  const graph = new Graph({ multigraph: true })
  graph.setGraph({ rankdir: 'TB', nodesep: 28, ranksep: 44, marginx: 0, marginy: 0 })
  for (const { id, width, height } of boxes) graph.setNode(String(id), { width, height })
  for (const [i, { from, to, label }] of edges.entries()) {
    const size =
      label === '' ? {} : { width: widthOf(label) * LINE.letter, height: LINE.height, labelpos: 'c' as const }
    graph.setEdge(String(from), String(to), size, String(i))
  }
  layout(graph)
  const { width: wide = 0, height: high = 0 } = graph.graph() as { width?: number; height?: number }
  const width = Math.ceil(Math.max(wide, widthOf(pipeline) * TITLE.letter) + 2 * MARGIN)
  const height = Math.ceil(high + 2 * MARGIN + HEAD)

  const lines = edges.map(({ from, to, label }, i) => {
    const { points, x, y } = graph.edge(String(from), String(to), String(i)) as { points: Point[] } & Point
    const [foot, head] = [from, to].map((id) => graph.node(String(id)) as Point)
    const between = points.slice(1, -1)
    const path = curve(
      { x: foot!.x, y: foot!.y + boxes[from]!.height / 2 },
      between.length === 1 && label === '' ? [] : between,
      { x: head!.x, y: head!.y - boxes[to]!.height / 2 - 1 },
    )
    const text =
      label === '' ? '' : `<text class="label" x="${round(x)}" y="${round(y + 4)}">${escaped(plain(label))}</text>`
    return `<path class="edge" marker-end="url(#head)" d="${path}"/>${text}`
  })
  const drawn = boxes.map((box) => {
    const { x, y } = graph.node(String(box.id)) as { x: number; y: number }
    return draw(box, x - box.width / 2, y - box.height / 2)
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escaped(`pipeline ${pipeline}`)}">
<style>${STYLE}</style>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path class="head" d="M0 0L8 4L0 8z"/></marker></defs>
<rect class="ground" width="${width}" height="${height}"/>
<text class="title" x="${MARGIN}" y="${MARGIN + TITLE.size}">${escaped(pipeline)}</text>
<g transform="translate(${MARGIN} ${MARGIN + HEAD})">
${[...lines, ...drawn].join('\n')}
</g>
</svg>
`
}

function boxOf(node: GraphNode): Box {
  const letters = node.lines.map((line) => Math.min(widthOf(plain(line)), WIDEST) * LINE.letter)
  const widest = Math.max(Math.min(widthOf(plain(node.title)), WIDEST) * TITLE.letter, ...letters)
  return {
    ...node,
    width: Math.ceil(widest + 2 * PADDING.x),
    height: TITLE.height + node.lines.length * LINE.height + 2 * PADDING.y,
  }
}

function draw({ role, title, lines, width, height }: Box, left: number, top: number): string {
  const corner = role === 'source' ? height / 2 : role === 'sink' ? 3 : 8
  const at = (line: number) => PADDING.y + TITLE.height + line * LINE.height + LINE.size
  const texts = lines.map(
    (line, i) => `<text class="line" x="${PADDING.x}" y="${at(i)}">${escaped(fit(plain(line), WIDEST))}</text>`,
  )
  return [
    `<g class="${role}" transform="translate(${round(left)} ${round(top)})">`,
    `<title>${escaped([title, ...lines].map(plain).join('\n'))}</title>`,
    `<rect class="box" width="${width}" height="${height}" rx="${Math.min(corner, 20)}"/>`,
    `<text class="title" x="${PADDING.x}" y="${PADDING.y + TITLE.size}">${escaped(fit(plain(title), WIDEST))}</text>`,
    ...texts,
    '</g>',
  ].join('')
}

interface Point {
  readonly x: number
  readonly y: number
}

/** From the foot of a box to the head of another, by the points that keep it clear of those between. */
function curve(from: Point, between: readonly Point[], to: Point): string {
  let text = `M${round(from.x)} ${round(from.y)}`
  let at = from
  for (const next of [...between, to]) {
    const half = round((at.y + next.y) / 2)
    text += `C${round(at.x)} ${half} ${round(next.x)} ${half} ${round(next.x)} ${round(next.y)}`
    at = next
  }
  return text
}

const round = (value: number) => Math.round(value * 10) / 10

function escaped(text: string): string {
  return text
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '')
}
