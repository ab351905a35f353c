import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { PipelineGraph } from '../../cli/graph/graph.ts'
import { mermaidOf } from '../../cli/graph/mermaid.ts'
import { svgOf } from '../../cli/graph/svg.ts'
import { treeOf } from '../../cli/graph/tree.ts'
import { type Place, pipelineText, place } from '../support/command.ts'
import { ROOT } from '../support/project.ts'

const TWENTY = join(ROOT, 'test/graph/twenty.ts')
let user: Place
beforeEach(() => {
  user = place()
})
afterEach(() => user.remove())

const odd = '"];x--><b>&#\n`|é\u001b[31m'
const graph: PipelineGraph = {
  pipeline: 'odd',
  nodes: [
    { id: 0, role: 'source', title: odd, lines: [odd] },
    { id: 1, role: 'sink', title: 'a'.repeat(200), lines: [] },
  ],
  edges: [{ from: 0, to: 1, label: odd }],
}

test('a tree names sources, state and how long it lives, what is laid aside, and guarantees', async () => {
  const { code, out } = await user.run('graph', TWENTY)
  expect(code).toBe(0)
  expect(out).toBe(`twenty

orders  kafka, stand-in · schema Order · lateness 1m
└─ dedup  seen: set, 1d
   ├─ … late  side stream
   │  └─ → late  file · idempotent
   ├─ (orders) merge  by event time
   │  └─ look up <customer>  mapAsync · 4 calls at once, 5s each
   │     ├─ balance  scan · states: table, 90d
   │     │  └─ map
   │     │     └─ → balances  redis, stand-in · idempotent
   │     ├─ flatMap
   │     │  └─ → parts  console · ledger: at least once
   │     └─ filter
   │        └─ → paid  log · idempotent
   ├─ absence  known: table, 6d · due: timers, by event time · lays aside, unused: late
   │  └─ → reminders  esp, stand-in · idempotent · reaches people
   └─ → orders  clickhouse, stand-in · idempotent

returns  file · schema Order · lateness 1h
├─ (returns & "claims") merge  see above
└─ filter#2  filter
   └─ map#2  map
      └─ → returned  file · idempotent
`)
})

test('a record of a person is kept for ever, and the picture says so', async () => {
  const { out } = await user.run('graph', join(ROOT, 'pipelines/profile-sync.ts'))
  expect(out).toMatch(/reconcile {2}records: table, for ever · /)
})

test('Mermaid has every box and line, and takes no text for its own language', async () => {
  const { out } = await user.run('graph', TWENTY, '--format', 'mermaid')
  expect(out.match(/^ {2}n\d+[[({]/gm)).toHaveLength(20)
  expect(out.match(/^ {2}n\d+ -->/gm)).toHaveLength(19)
  expect(out).toContain('<b>look up #60;customer#62;</b>')
  const texts = [...mermaidOf(graph).matchAll(/"([^"\n]*)"/g)].map(([, text]) => text!.replace(/<\/?b>|<br\/>/g, ''))
  expect(texts).toHaveLength(4)
  for (const text of texts) expect(text).toMatch(/^(?:[\p{L}\p{N} .,:+-]|#\d+;)*$/u)
})

test('the picture is whole in itself, knows light and dark, and its boxes do not meet', async () => {
  expect((await user.run('graph', TWENTY, '--out', 'graph.svg')).out).toBe('')
  const svg = readFileSync(user.path('graph.svg'), 'utf8')
  expect(svg).toContain('prefers-color-scheme: dark')
  expect(svg.replace('http://www.w3.org/2000/svg', '')).not.toMatch(/https?:|<script|<image|@import/)
  const boxes = [
    ...svg.matchAll(
      /translate\(([\d.]+) ([\d.]+)\)"><title>[^<]*<\/title><rect class="box" width="(\d+)" height="(\d+)"/g,
    ),
  ].map((match) => match.slice(1).map(Number) as [number, number, number, number])
  expect(boxes).toHaveLength(20)
  for (const [i, [x, y, width, height]] of boxes.entries()) {
    for (const [left, top, wide, high] of boxes.slice(i + 1))
      expect(x + width < left || left + wide < x || y + height < top || top + high < y).toBe(true)
  }
})

test('odd texts neither end an element nor reach the terminal', () => {
  const svg = svgOf(graph)
  expect(svg).not.toContain('<b>')
  expect(svg).not.toContain('\u001b')
  expect(svg).toContain('&#60;b&#62;&#38;#')
  expect(svg).toMatch(/>a{39}…<\/text>/)
  expect(treeOf(graph, { style: (_, text) => text })).not.toContain('\u001b')
})

test('what is real is told by the environment, and a page of Markdown gets a block', async () => {
  expect((await user.run('graph', TWENTY, '--out', 'graph.md')).code).toBe(0)
  expect(readFileSync(user.path('graph.md'), 'utf8')).toMatch(/^```mermaid\n---\ntitle: "twenty"\n[\s\S]*\n```\n$/)
  const { graphOf } = await import('../../cli/graph/graph.ts')
  const { loadWatched } = await import('../../cli/watched.ts')
  const { pipelines, parts } = await loadWatched(TWENTY)
  const { nodes } = graphOf(pipelines[0]!, { parts, env: { CLICKHOUSE_URL: 'http://x' }, texts: [] })
  const lines = nodes.flatMap((node) => (node.role === 'sink' ? [node.lines[0]] : []))
  expect(lines).toContain('clickhouse, real')
  expect(lines).toContain('redis, stand-in')
})

test('a file that is not there, and a format that is none, are the command line', async () => {
  for (const args of [['nowhere.ts'], [TWENTY, '--format', 'png']]) {
    const { code, err } = await user.run('graph', ...args)
    expect(err).toMatch(/^error/)
    expect(code).toBe(2)
  }
})

test('a repartition says that a stage begins, and what carries the records there', async () => {
  user.write(
    'mine.ts',
    pipelineText({ operators: 'repartition((e) => e.id, { partitions: 4 })' }).replace(
      'dedup, map,',
      'dedup, map, repartition,',
    ),
  )
  expect((await user.run('graph', 'mine.ts')).out).toContain('└─ repartition  a log of 4 partitions: a new stage\n')
})
