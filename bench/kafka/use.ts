import { readdirSync, readFileSync } from 'node:fs'

/** Processor time and the most memory of a process and those that it started. */
export interface Use {
  readonly cpuSeconds: number
  readonly memoryMB: number
}

/** Clock ticks a second, which Linux fixes for what it tells programs. */
const TICKS = 100

/**
 * What a process and its descendants have used so far, of those that still run and those that it has waited for. With
 * `apart`, those whose command line holds that text are left out, and with `only` all others.
 */
export function useOf(pid: number, { apart, only }: { apart?: string; only?: string } = {}): Use {
  let [cpuSeconds, memoryMB] = [0, 0]
  for (const member of family(pid)) {
    const command = text(`/proc/${member}/cmdline`)
    if ((apart !== undefined && command.includes(apart)) || (only !== undefined && !command.includes(only))) continue
    const stat = text(`/proc/${member}/stat`)
    const fields = stat
      .slice(stat.lastIndexOf(') ') + 2)
      .split(' ')
      .map(Number)
    cpuSeconds +=
      ((fields[11] ?? 0) + (fields[12] ?? 0) + (member === pid ? (fields[13] ?? 0) + (fields[14] ?? 0) : 0)) / TICKS
    memoryMB += Number(/VmHWM:\s+(\d+)/.exec(text(`/proc/${member}/status`))?.[1] ?? 0) / 1_024
  }
  return { cpuSeconds, memoryMB: Math.round(memoryMB) }
}

function family(root: number): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const stat = text(`/proc/${name}/stat`)
    parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(') ') + 2).split(' ')[1]))
  }
  const members = [root]
  for (let i = 0; i < members.length; i++)
    for (const [child, parent] of parents) if (parent === members[i]) members.push(child)
  return members
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
