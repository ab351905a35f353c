import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runToEnd } from '../test/support/run.ts'
import { cartsToWarehouse } from './pipelines.ts'

/** Runs the bench's pipeline on one file, in a data directory of its own. Prints one line of JSON. */
const [path] = process.argv.slice(2)
const dataDir = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
try {
  const began = performance.now()
  let warehouse = { cpuSeconds: 0, peakMemoryMB: 0 }
  const sampling = setInterval(() => (warehouse = warehouseUse(dataDir) ?? warehouse), 100)
  const status = await runToEnd(cartsToWarehouse(path!), dataDir, {})
  clearInterval(sampling)
  const seconds = (performance.now() - began) / 1_000
  const { user, system } = process.cpuUsage()
  const own = (user + system) / 1e6
  console.log(
    JSON.stringify({
      read: status.read,
      rows: status.sinks.events!.rows,
      epochs: status.epochs,
      seconds,
      ownCpuSeconds: own,
      cpuSeconds: own + warehouse.cpuSeconds,
      peakMemoryMB: process.resourceUsage().maxRSS / 1_024,
      warehouseMemoryMB: warehouse.peakMemoryMB,
    }),
  )
} finally {
  rmSync(dataDir, { recursive: true, force: true })
}

/** Processor time and memory of the warehouse's process so far; undefined where the system does not tell. */
function warehouseUse(folder: string): { cpuSeconds: number; peakMemoryMB: number } | undefined {
  try {
    for (const pid of readdirSync('/proc')) {
      if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue
      const command = text(`/proc/${pid}/cmdline`)
      if (!command.includes(folder)) continue
      const fields = text(`/proc/${pid}/stat`).split(') ')[1]!.split(' ')
      const peak = /VmHWM:\s+(\d+)/.exec(text(`/proc/${pid}/status`))
      return {
        cpuSeconds: (Number(fields[11]) + Number(fields[12])) / 100,
        peakMemoryMB: Number(peak?.[1] ?? 0) / 1_024,
      }
    }
  } catch {
    return undefined
  }
  return undefined
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
