import type { StoredDeadLetter } from '../../core/store.ts'
import type { MemoryDisk } from '../../state/memory.ts'
import { expected, type Input } from './shop.ts'
import type { Row, System } from './systems.ts'
import type { Variant } from './variant.ts'

export interface Judged {
  readonly lost: number
  readonly doubled: number
  readonly violations: readonly string[]
}

/** Holds what came of a schedule to what had to, by a plain computation over its whole input. */
export function judge(
  {
    variant,
    input,
    disk,
    rows,
    mails,
  }: { variant: Variant; input: Input; disk: MemoryDisk; rows: System; mails: System },
  putBack: boolean,
): Judged {
  const wanted = expected(input, variant)
  const violations = [...rows.violations, ...mails.violations]
  let lost = 0
  let doubled = 0
  const compare = (what: string, want: readonly string[], got: readonly string[], repeats = putBack) => {
    const counts = new Map<string, number>()
    for (const one of want) counts.set(one, (counts.get(one) ?? 0) + 1)
    for (const one of got) counts.set(one, (counts.get(one) ?? 0) - 1)
    for (const [one, difference] of counts) {
      if (difference === 0) continue
      if (difference < 0 && repeats && want.includes(one)) continue
      if (difference > 0) lost += difference
      else doubled -= difference
      violations.push(`${what}: ${one} is ${difference > 0 ? 'missing' : 'too much'}`)
    }
  }
  // what a full lane has set aside counts as taken
  const parked = disk.deadLetters.filter(
    (letter) => letter.reason.includes('whenFull') && rowOf(letter).flaw !== 'refused',
  )
  const parkedIn = (sink: string) => parked.filter(({ where }) => where === sink).map(rowOf)
  wanted.rows.forEach((want, partition) => {
    const taken = rows.applied().filter(({ task }) => task.endsWith(`/${partition}`))
    const got = taken.map(({ row }) => row.id!)
    const aside = parked.filter(({ where, source }) => where === 'rows' && partitionOf(source) === partition)
    compare(`rows of partition ${partition}`, want, [...got, ...aside.map((letter) => rowOf(letter).id!)])
    // with a clock that jumps, an older store may give older versions
    const versioned =
      !input.desk && parked.length === 0 && variant.rows.repeats === 'by name' && !(putBack && variant.jumps > 0)
    for (const [who, last] of versioned
      ? lastOf(
          want,
          taken.map(({ row }) => row),
        )
      : [])
      if (rows.newest.get(who)?.id !== last)
        violations.push(`${who}: ${rows.newest.get(who)?.id} has the largest version, and ${last} was the last`)
    if (putBack || input.desk) return
    let at = -1
    if (taken.some(({ row }, i) => i > 0 && row.v <= taken[i - 1]!.row.v))
      violations.push(`rows of partition ${partition}: a version is not larger than the one before`)
    for (const id of got) {
      const next = want.indexOf(id, at + 1)
      if (next < 0 && want.includes(id)) violations.push(`rows of partition ${partition}: ${id} came out of order`)
      if (next >= 0) at = next
    }
  })
  const mailOf = ({ key, at, n }: Row) => (input.desk ? `${key}@${at}` : `${key}@${at}, ${n}`)
  compare(
    'mails',
    wanted.mails,
    [...mails.applied().map(({ row }) => row), ...parkedIn('mails')].map(mailOf),
    // one that was sent may be made again, and find its lane full
    putBack && (variant.mails.repeats !== 'by key' || parked.length > 0),
  )
  checkTimes(input, mails, putBack, violations)
  // a call that takes half a minute is under way whenever the process dies: it may well be taken for what kills it
  const laid = (letter: StoredDeadLetter) =>
    letter.where === 'task' &&
    disk.crashes >= 10 &&
    input.shop[letter.partition]?.[letter.position]?.event?.flaw === 'hangs'
  const letters = disk.deadLetters
    .filter((letter) => !parked.includes(letter))
    .map((letter) => letterOf(laid(letter) ? { ...letter, where: 'check' } : letter))
  compare('dead letters', wanted.letters, letters)
  for (const task of disk.tasks()) {
    const { batches } = disk.task(task)!
    if (batches.size > 0) violations.push(`${task}: ${batches.size} batches are left`)
  }
  return { lost, doubled, violations }
}

/** No mail before its time, and those of a partition in the order of their times. */
function checkTimes(input: Input, mails: System, putBack: boolean, violations: string[]): void {
  const before = new Map<string, number>()
  // the end of a source is the end of all waiting
  const ends = input.shop.map((feed, i) => Math.max(feed.at(-1)?.at ?? 0, input.desk?.[i]?.at(-1)?.at ?? 0))
  for (const { task, row, at } of mails.applied()) {
    const partition = partitionOf(task)
    if (at < row.at && at < ends[partition]!) violations.push(`the mail ${row.key}@${row.at} was sent before its time`)
    if (!putBack && row.at < (before.get(task) ?? 0)) violations.push(`the mail ${row.key}@${row.at} came out of order`)
    before.set(task, row.at)
  }
}

/** Of each person, the last row in the order of the input. */
function lastOf(want: readonly string[], rows: readonly Row[]): Map<string, string> {
  const whoOf = new Map(rows.map(({ id, who }) => [id!, who!]))
  const last = new Map<string, string>()
  for (const id of want) {
    const who = whoOf.get(id)
    if (who !== undefined) last.set(who, id)
  }
  return last
}

function letterOf(letter: StoredDeadLetter): string {
  const { source, partition, position, where } = letter
  if (source.startsWith('timer ')) {
    const [time, ...key] = source.split('/').slice(2)
    return `timer ${key.join('/')}@${time}`
  }
  if (position >= 0 && partition >= 0) return `${source} ${partition}/${position} ${where === 'map' ? 'check' : where}`
  return `refused ${rowOf(letter).id} ${where}`
}

function rowOf({ bytes }: StoredDeadLetter): Row {
  return JSON.parse(Buffer.from(bytes).toString()) as Row
}

/** `pipeline/stage/partition`, alone or in a batch's name. */
function partitionOf(name: string): number {
  return Number(name.slice(name.indexOf('simulated/')).split('/')[2])
}
