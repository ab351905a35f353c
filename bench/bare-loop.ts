import { closeSync, openSync, readSync } from 'node:fs'

/**
 * What any program pays that reads events and writes them again: read, `JSON.parse`, a `Map` for repeats, `JSON.stringify`.
 * Started with the file's path; prints one line of JSON.
 */
const file = openSync(process.argv[2]!, 'r')
const chunk = Buffer.allocUnsafe(1_048_576)
const seen = new Map<string, number>()
const began = performance.now()
let rest = ''
let read = 0
let rows = 0
let written = 0
for (let size = readSync(file, chunk); size > 0; size = readSync(file, chunk)) {
  const text = rest + chunk.toString('latin1', 0, size)
  let from = 0
  for (let end = text.indexOf('\n', from); end >= 0; end = text.indexOf('\n', from)) {
    const line = text.slice(from, end)
    from = end + 1
    read++
    let event: { eventId: string; occurredAt: number }
    try {
      event = JSON.parse(line)
    } catch {
      continue
    }
    if (seen.has(event.eventId)) continue
    seen.set(event.eventId, event.occurredAt)
    rows++
    written += JSON.stringify(event).length
  }
  rest = text.slice(from)
}
closeSync(file)
const seconds = (performance.now() - began) / 1_000
const { user, system } = process.cpuUsage()
console.log(
  JSON.stringify({
    read,
    rows,
    written,
    seconds,
    cpuSeconds: (user + system) / 1e6,
    peakMemoryMB: process.resourceUsage().maxRSS / 1_024,
  }),
)
