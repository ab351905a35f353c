import { closeSync, existsSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateShop } from '../sources/shop-generator.ts'

/** The path of a file of so many lines of the made-up shop; it is made once, and kept in the temporary folder. */
export function eventsFile(events: number, perDay = 2_000_000): string {
  const folder = join(tmpdir(), 'millrace-bench')
  mkdirSync(folder, { recursive: true })
  const path = join(folder, `shop-${events}-${perDay}.jsonl`)
  if (existsSync(path)) return path
  const file = openSync(`${path}.part`, 'w')
  let lines: string[] = []
  for (const line of generateShop({ seed: 7, events, perDay, visitors: 500_000 })) {
    lines.push(line)
    if (lines.length < 10_000) continue
    writeSync(file, `${lines.join('\n')}\n`)
    lines = []
  }
  if (lines.length > 0) writeSync(file, `${lines.join('\n')}\n`)
  closeSync(file)
  renameSync(`${path}.part`, path)
  return path
}
