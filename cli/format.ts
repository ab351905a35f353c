/** Numbers, sizes and times in the words of a person. All in English, whatever the machine's language is. */

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 })

/** `1,234,567`. */
export function count(value: number): string {
  return whole.format(value)
}

/** `12 rows`, `1 row`. */
export function counted(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`
}

/** `999 B`, `4.2 MB`; units are powers of 1,024. */
export function size(bytes: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB']
  let value = bytes
  let unit = 0
  while (value >= 1_024 && unit < units.length - 1) {
    value /= 1_024
    unit++
  }
  return `${unit === 0 || value >= 100 ? count(value) : value.toFixed(1)} ${units[unit]}`
}

/** `12 ms`, `3.4 s`, `5 min`, `2 h`, `17 days`. */
export function span(milliseconds: number): string {
  const seconds = milliseconds / 1_000
  if (Math.abs(milliseconds) < 1_000) return `${Math.round(milliseconds)} ms`
  if (Math.abs(seconds) < 60) return `${seconds.toFixed(1)} s`
  if (Math.abs(seconds) < 3_600) return `${Math.round(seconds / 60)} min`
  if (Math.abs(seconds) < 172_800) return `${Math.round(seconds / 3_600)} h`
  return `${count(seconds / 86_400)} days`
}

/** `2026-11-24 00:31:05`, in UTC. */
export function instant(milliseconds: number): string {
  const date = new Date(milliseconds)
  return Number.isNaN(date.getTime()) ? String(milliseconds) : date.toISOString().slice(0, 19).replace('T', ' ')
}
