import { writeFileSync } from 'node:fs'
import { extname, resolve } from 'node:path'
import { sourceTexts } from '../check/source-text.ts'
import type { GraphFormat } from '../defaults.ts'
import { loadPipeline } from '../load-pipeline.ts'
import { out, type Terminal } from '../terminal.ts'
import { loadWatched } from '../watched.ts'
import { graphOf, type PipelineGraph } from './graph.ts'
import { mermaidOf } from './mermaid.ts'
import { svgOf } from './svg.ts'
import { treeOf } from './tree.ts'

interface Options {
  readonly format?: GraphFormat
  readonly out?: string
  readonly pipeline?: string
}

const ENDINGS: Readonly<Record<string, GraphFormat>> = { '.svg': 'svg', '.mmd': 'mermaid', '.md': 'mermaid' }
const PLAIN: Pick<Terminal, 'style'> = { style: (_, text) => text }

/** Draws the pipeline that a file exports. @throws MillraceError as `loadPipeline` does, and when the picture cannot be written */
export async function showGraph(file: string, { format, out: path, pipeline: name }: Options): Promise<void> {
  const { parts } = await loadWatched(file)
  const pipeline = await loadPipeline(file, name)
  const graph = graphOf(pipeline, { parts, env: process.env, texts: sourceTexts(resolve(file)) })
  const wanted = format ?? ENDINGS[extname(path ?? '').toLowerCase()] ?? 'text'
  if (path === undefined) return out.write(drawn(graph, wanted, out))
  const text = drawn(graph, wanted, PLAIN)
  writeFileSync(path, wanted === 'mermaid' && extname(path) === '.md' ? `\`\`\`mermaid\n${text}\`\`\`\n` : text)
}

function drawn(graph: PipelineGraph, format: GraphFormat, on: Pick<Terminal, 'style'>): string {
  if (format === 'svg') return svgOf(graph)
  return format === 'mermaid' ? mermaidOf(graph) : treeOf(graph, on)
}
