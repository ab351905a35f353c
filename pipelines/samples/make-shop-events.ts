import { createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { generateShop } from '../../sources/shop-generator.ts'

// Makes shop-events.jsonl, which lies beside: two and a half days of a small shop that does not exist.
const lines = generateShop({ seed: 1, events: 6_000, perDay: 2_500, visitors: 1_200, items: 240 })
const file = createWriteStream(new URL('./shop-events.jsonl', import.meta.url))
await pipeline(
  Readable.from(lines).map((line: string) => `${line}\n`),
  file,
)
