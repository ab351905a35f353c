import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import {
  concat,
  defer,
  finalize,
  from,
  lastValueFrom,
  NEVER,
  type Observable,
  Subject,
  throwError,
  toArray,
} from 'rxjs'
import { TestScheduler } from 'rxjs/testing'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { z } from 'zod'
import { type Duration, milliseconds } from '../../core/duration.ts'
import { definitionOf, type Operator } from '../../core/operator.ts'
import { pipeline } from '../../core/pipeline.ts'
import type { Sink } from '../../core/sink.ts'
import { type Stream, stream } from '../../core/stream.ts'
import { eventTime } from '../../operators/event-time.ts'
import { tap } from '../../operators/tap.ts'
import { MemoryDisk } from '../../state/memory.ts'
import { listSource } from '../../testing/list-source.ts'
import { turn } from '../../testing/manual-runtime.ts'
import { type Outcome, Trial, type TrialOptions } from '../../testing/trial.ts'

/** What the suite's streams are of. */
export const Sample = z.object({
  id: z.string(),
  who: z.string(),
  what: z.enum(['cart', 'buy', 'view']),
  /** Event time, epoch milliseconds. */
  at: z.number(),
  /** What `checked` throws on. */
  bad: z.boolean(),
})
export type Sample = z.infer<typeof Sample>

/** For the operator's own functions: throws on a bad sample, as an author's function may. */
export function checked(sample: Sample): Sample {
  if (sample.bad) throw new Error('a bad sample')
  return sample
}

export interface OperatorUnderTest {
  /** The operator in a pipeline: the streams that end in sinks, by name. Its functions must call `checked`. */
  make(samples: Stream<Sample>, others: Stream<Sample>): Readonly<Record<string, Stream<unknown>>>
  /** Event time after which nothing is known any more of what came before. Absent when it keeps nothing. */
  forgets?: Duration | 'never'
  /** The same operator for a plain Observable, by `who`; its values are those of the output `main`. */
  outside?: () => Operator<Sample, unknown>
  /** File name, in `test/fixtures/state`, of what it had stored in an earlier version. */
  fixture?: string
}

const START = 1_700_000_000_000
const LATENESS = 10_000
const MAIN = 'main'

/** Samples with keys, disorder within and beyond the lateness, repeats, ties, silences and bad ones. */
const samplesOf = (minLength: number, maxLength: number): fc.Arbitrary<Sample[]> =>
  fc
    .array(
      fc.record({
        who: fc.constantFrom('ann', 'bob', 'cyd'),
        what: fc.constantFrom('cart' as const, 'cart' as const, 'buy' as const, 'view' as const),
        gap: fc.oneof(
          { weight: 8, arbitrary: fc.integer({ min: 0, max: 9 }) },
          { weight: 1, arbitrary: fc.integer({ min: 20, max: 90 }) },
        ),
        back: fc.oneof(
          { weight: 4, arbitrary: fc.constant(0) },
          { weight: 3, arbitrary: fc.integer({ min: 1, max: 10 }) },
          { weight: 1, arbitrary: fc.integer({ min: 11, max: 90 }) },
        ),
        repeats: fc.integer({ min: -40, max: 12 }),
        bad: fc.integer({ min: 0, max: 15 }).map((n) => n === 15),
      }),
      { minLength, maxLength, size: 'max' },
    )
    .map((drafts) => {
      let now = START
      const made: Sample[] = []
      for (const [i, { who, what, gap, back, repeats, bad }] of drafts.entries()) {
        now += gap * 1_000
        const before = repeats > 0 ? made[i - repeats] : undefined
        made.push(before ?? { id: `${i}`, who, what, at: now - back * 1_000, bad })
      }
      return made
    })

export const arbitrarySamples = samplesOf(1, 60)

/** The same samples at every run, for checks that take each place of a stream in turn. */
const [FIXED] = fc.sample(samplesOf(50, 50), { numRuns: 1, seed: 4_711 })

const arbitraryBounds = fc.record({
  records: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 40 })),
  bytes: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 2_000 })),
})
const EVERY = { records: 1, bytes: 1 }

/** Takes what was drawn in turn, over and over. */
export function inTurn<T>(drawn: readonly T[]): () => T {
  let i = 0
  return () => drawn[i++ % drawn.length]!
}

/**
 * What every operator must do, by one call.
 *
 * In a pipeline: what it emits (values, keys, times, causes, order), sets aside, and keeps is the same wherever epochs
 * are cut and whenever the process dies; what it keeps goes with time; what an earlier version stored is taken up, and
 * what a later one stored is refused. On a plain Observable, it keeps the customs of RxJS, and gives the same values.
 */
export function operatorSuite(name: string, subject: OperatorUnderTest): void {
  const { make, forgets, outside, fixture } = subject
  const options = (inputs: TrialOptions['inputs']): TrialOptions => ({ inputs, pipeline: (to) => piped(make, to) })
  const inputsOf = (samples: readonly Sample[], others: readonly Sample[]) =>
    readsOthers(make) ? { samples: [samples], others: [others] } : { samples: [samples] }

  describe(`${name} in a pipeline`, () => {
    test('gives the same wherever its input is cut, and however often the process dies', async () => {
      await fc.assert(
        fc.asyncProperty(
          arbitrarySamples,
          arbitrarySamples,
          fc.array(arbitraryBounds, { minLength: 1, maxLength: 8 }),
          fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 3 }),
          async (samples, others, bounds, lives) => {
            const inputs = inputsOf(samples, others)
            const whole = await outcome(options(inputs))
            expect(await outcome({ ...options(inputs), epoch: () => EVERY })).toEqual(whole)
            expect(await outcome({ ...options(inputs), epoch: inTurn(bounds) })).toEqual(whole)
            const deaths = new Set(lives.map((_, i) => lives.slice(0, i + 1).reduce((sum, life) => sum + life, 0)))
            expect(
              await outcome({ ...options(inputs), epoch: inTurn(bounds), dies: (commit) => deaths.has(commit) }),
            ).toEqual(whole)
          },
        ),
        { numRuns: 25 },
      )
    })

    test('gives the same when it starts again after any commit', async () => {
      const inputs = inputsOf(
        FIXED!,
        FIXED!.map((sample) => ({ ...sample, id: `o${sample.id}`, at: sample.at + 500 })),
      )
      const cut = { ...options(inputs), epoch: () => EVERY }
      let commits = 0
      const whole = await outcome(cut, (trial) => {
        commits = trial.commits
      })
      expect(commits).toBeGreaterThan(FIXED!.length / 2)
      for (let at = 1; at <= commits; at++) {
        const died = await outcome({ ...cut, dies: (commit) => commit === at }, (trial) => expect(trial.deaths).toBe(1))
        expect(died).toEqual(whole)
      }
    })

    test('gives the same from several partitions as each gives by itself', async () => {
      const lists = ['ann', 'bob', 'cyd'].map((who) => FIXED!.filter((sample) => sample.who === who))
      const together = await outcome({
        ...options(doubled(inputsOf([], []), lists)),
        epoch: () => ({ records: 3, bytes: 1_000 }),
      })
      for (const [partition, list] of lists.entries()) {
        const alone = await outcome(options(doubled(inputsOf([], []), [list])))
        for (const [output, rows] of Object.entries(alone.rows)) {
          // what is drawn is drawn from a record's place, of which the partition is a part
          if (output.startsWith('drawn/')) continue
          const same = together.rows[output.replace('/0', `/${partition}`)]!
          expect(same.map(({ value, key, time }) => ({ value, key, time }))).toEqual(
            rows.map(({ value, key, time }) => ({ value, key, time })),
          )
        }
      }
    })

    test('sets bad records aside, each once, with nothing of them left', async () => {
      const inputs = inputsOf(FIXED!, [])
      const { letters, rows } = await outcome({ ...options(inputs), pipeline: (to) => piped(make, to, false) })
      const bad = FIXED!.flatMap(({ bad }, position) => (bad ? [position] : []))
      expect(bad.length).toBeGreaterThan(0)
      expect(letters.map((letter) => Number(letter.split(' ')[2])).sort((a, b) => a - b)).toEqual(bad)
      expect(letters.every((letter) => letter.endsWith('OPERATOR_THREW'))).toBe(true)
      expect(JSON.stringify(rows)).not.toContain('"bad":true')
    })

    if (forgets !== undefined && forgets !== 'never') {
      test('forgets what is over', async () => {
        const trial = new Trial(options(inputsOf(FIXED!, [])))
        await trial.settle()
        const kept = (state: Outcome['state']) => Object.values(state).reduce((sum, entries) => sum + entries.length, 0)
        expect(kept(trial.outcome().state)).toBeGreaterThan(0)
        const last = Math.max(...FIXED!.map(({ at }) => at))
        trial.sources.samples!.push({
          id: 'last',
          who: 'zoe',
          what: 'cart',
          at: last + milliseconds(forgets, 'forgets') + LATENESS + 1,
          bad: false,
        } satisfies Sample)
        await trial.settle()
        const left = Object.values(trial.outcome().state).flat()
        expect(left.filter((entry) => /"key":"(\d+:)?(ann|bob|cyd)/.test(entry))).toEqual([])
        expect(left.length).toBeLessThanOrEqual(4)
        await trial.finish()
        expect(kept(trial.outcome().state)).toBe(0)
      })
    }

    test('has state exactly when it is said to forget it', async () => {
      const trial = new Trial(options(inputsOf(FIXED!, FIXED!)))
      await trial.settle()
      expect(Object.keys(trial.outcome().state).length > 0).toBe(forgets !== undefined)
    })

    if (fixture !== undefined) {
      const half = FIXED!.slice(0, FIXED!.length / 2)
      const rest = FIXED!.slice(FIXED!.length / 2)
      const path = join(import.meta.dirname, '../fixtures/state', fixture)

      test('takes up what an earlier version has stored', async () => {
        if (!existsSync(path) && process.env.MILLRACE_WRITE_FIXTURES) {
          const trial = new Trial(options(inputsOf(half, [])))
          await trial.settle()
          writeFileSync(path, stored(trial.disk))
        }
        expect(existsSync(path), `there is no ${path}: write it with MILLRACE_WRITE_FIXTURES=1, and never again`).toBe(
          true,
        )
        const whole = await outcome(options(inputsOf(FIXED!, [])))
        const trial = new Trial({ ...options(inputsOf(FIXED!, [])), disk: restored(readFileSync(path, 'utf8')) })
        await trial.settle()
        expect(trial.outcome().state).toEqual((await before(options(inputsOf(FIXED!, [])))).state)
        await trial.finish()
        const { rows } = trial.outcome()
        expect(rest.length).toBeGreaterThan(10)
        for (const [output, all] of Object.entries(whole.rows))
          expect(all.slice(-rows[output]!.length)).toEqual(rows[output])
      })

      test('refuses what a later version has stored, and what is damaged', async () => {
        const later = readFileSync(path, 'utf8').replaceAll(/(?<="format": ".*\/)\d+/g, '999')
        await expect(before({ ...options(inputsOf(FIXED!, [])), disk: restored(later) })).rejects.toMatchObject({
          code: 'STATE_TOO_NEW',
        })
        const cut = JSON.parse(readFileSync(path, 'utf8'))
        for (const blob of cut.blobs) blob.bytes = Buffer.from(blob.bytes, 'base64').subarray(0, -1).toString('base64')
        await expect(
          before({ ...options(inputsOf(FIXED!, [])), disk: restored(JSON.stringify(cut)) }),
        ).rejects.toMatchObject({ code: 'STATE_DAMAGED' })
      })

      if (readsOthers(make)) return

      test('refuses to be taken away while it has state, unless it is told to', async () => {
        const without = {
          ...options(inputsOf(FIXED!, [])),
          pipeline: (to: Sink<any>) => piped((samples) => ({ [MAIN]: samples }), to),
        }
        const disk = () => restored(readFileSync(path, 'utf8'))
        await expect(before({ ...without, disk: disk() })).rejects.toMatchObject({ code: 'TOPOLOGY_CHANGED' })
        const slots = JSON.parse(JSON.parse(readFileSync(path, 'utf8')).facts).slots
        const dropState = Object.keys(slots).map((slot) => slot.split('/')[0]!)
        expect((await before({ ...without, disk: disk(), worker: { dropState } })).state).toEqual({})
      })
    }
  })

  if (outside !== undefined)
    plainSuite(name, outside, (samples) =>
      outcome({ ...options({ samples: [samples] }), pipeline: (to) => piped(make, to, false) }),
    )
}

/** The customs of RxJS, for an operator on a plain Observable. */
function plainSuite(
  name: string,
  outside: () => Operator<Sample, unknown>,
  inside: (samples: readonly Sample[]) => Promise<Outcome>,
): void {
  const good = FIXED!.filter(({ bad }) => !bad)
  const asynchronous = definitionOf(outside())?.work !== undefined
  const timed = (samples: Observable<Sample>) =>
    samples.pipe(
      eventTime((sample: Sample) => sample.at, { lateness: '10s' }),
      outside(),
    )
  const all = (values: Observable<unknown>) => lastValueFrom(values.pipe(toArray()))

  describe(`${name} on a plain Observable`, () => {
    afterEach(() => {
      vi.useRealTimers()
    })

    test('gives the values that it gives in a pipeline', async () => {
      await fc.assert(
        fc.asyncProperty(arbitrarySamples, async (drawn) => {
          const samples = drawn.filter(({ bad }) => !bad)
          const rows = (await inside(samples)).rows[`${MAIN}/0`] ?? []
          expect(JSON.parse(JSON.stringify(await all(timed(from(samples)))))).toEqual(rows.map(({ value }) => value))
        }),
        { numRuns: 25 },
      )
    })

    test('completes when its source does, with an empty one at once', () => {
      new TestScheduler((actual, expected) => expect(actual).toEqual(expected)).run(
        ({ cold, expectObservable, expectSubscriptions }) => {
          const source = cold<Sample>('--|')
          expectObservable(source.pipe(outside())).toBe('--|')
          expectSubscriptions(source.subscriptions).toBe('^-!')
        },
      )
    })

    test('passes the error of its source on', () => {
      new TestScheduler((actual, expected) => expect(actual).toEqual(expected)).run(
        ({ cold, expectObservable, expectSubscriptions }) => {
          const source = cold<Sample>('--#')
          expectObservable(source.pipe(outside())).toBe('--#')
          expectSubscriptions(source.subscriptions).toBe('^-!')
        },
      )
      return expect(all(throwError(() => new Error('no source')).pipe(outside() as never))).rejects.toThrow('no source')
    })

    test('leaves its source, and every alarm, when it is left', async () => {
      vi.useFakeTimers()
      let left = 0
      const source = defer(() => {
        const subject = new Subject<Sample>()
        queueMicrotask(() => {
          for (const sample of good) subject.next(sample)
        })
        return subject
      })
      const subscription = source
        .pipe(
          counting(() => left++),
          outside(),
        )
        .subscribe()
      await vi.advanceTimersByTimeAsync(0)
      expect(left).toBe(0)
      subscription.unsubscribe()
      expect(left).toBe(1)
      await vi.advanceTimersByTimeAsync(0)
      expect(vi.getTimerCount()).toBe(0)
    })

    test('turns a throw of its function into an error, leaves its source, and says nothing more', async () => {
      let left = 0
      const heard: string[] = []
      const bad = { ...good[0]!, what: 'cart' as const, bad: true }
      await new Promise<void>((resolve) => {
        from([bad, ...good])
          .pipe(
            concatNever,
            counting(() => left++),
            outside(),
          )
          .subscribe({
            next: () => heard.push('next'),
            error: (error: Error) => {
              heard.push(error.message)
              setImmediate(resolve)
            },
            complete: () => heard.push('complete'),
          })
      })
      expect(heard).toEqual(['a bad sample'])
      expect(left).toBe(1)
    })

    test('begins anew for each subscriber', async () => {
      const values = timed(from(good))
      const first = await all(values)
      expect(first.length).toBeGreaterThan(0)
      expect(await all(values)).toEqual(first)
      const [a, b] = await Promise.all([all(values), all(values)])
      expect([a, b]).toEqual([first, first])
    })

    test('bears that its source goes on while it speaks', async () => {
      const whole = await all(timed(from(good)))
      const source = new Subject<Sample>()
      const rest = good.slice(1)
      const heard: unknown[] = []
      const ended = new Promise<void>((resolve, reject) => {
        source.pipe(timed).subscribe({
          next: (value) => {
            heard.push(value)
            const next = rest.shift()
            if (next) source.next(next)
          },
          error: reject,
          complete: resolve,
        })
      })
      source.next(good[0]!)
      while (rest.length > 0) {
        source.next(rest.shift()!)
        if (asynchronous) await turn()
      }
      source.complete()
      await ended
      expect(heard.length).toBe(whole.length)
      expect(new Set(heard.map((value) => JSON.stringify(value)))).toEqual(
        new Set(whole.map((value) => JSON.stringify(value))),
      )
    })

    test('ends early when that is asked for', async () => {
      const some = await all(timed(from(good)))
      const taken: unknown[] = []
      await new Promise<void>((resolve) => {
        const subscription = timed(from(good).pipe(concatNever)).subscribe((value) => {
          taken.push(value)
          if (taken.length === 1) {
            queueMicrotask(() => {
              subscription.unsubscribe()
              resolve()
            })
          }
        })
      })
      const before = taken.length
      await turn()
      expect(taken).toHaveLength(before)
      expect(some.slice(0, before)).toEqual(taken)
    })
  })
}

/** A stream that does not end by itself. */
const concatNever = <T>(source: Observable<T>): Observable<T> => concat(source, NEVER)

/** Tells when its source is left. */
function counting<T>(left: () => void): (source: Observable<T>) => Observable<T> {
  return (source) => source.pipe(finalize(left))
}

/** A pipeline around the operator; with `fails`, some of what it gives fails further down. */
function piped(make: OperatorUnderTest['make'], to: Sink<any>, fails = true) {
  const streams = ['samples', 'others'].map((name) =>
    stream(listSource(name, [[]]), { schema: Sample, key: (e) => e.who, time: (e) => e.at, lateness: '10s', name }),
  )
  const outputs = Object.entries(make(streams[0]!, streams[1]!)).map(([name, made]) => {
    const checked = fails ? made.pipe(tap((_, { time }) => failFor(time))) : made
    return [name, checked.to(to)] as const
  })
  return pipeline('trial', Object.fromEntries(outputs), { maxPoison: 1 })
}

function failFor(time: number): void {
  if (time % 13_000 === 5_000) throw new Error('a failure further down')
}

function readsOthers(make: OperatorUnderTest['make']): boolean {
  let read = false
  const watched = (mine: boolean): any =>
    new Proxy(stream(listSource('x', [[]]), { schema: Sample, key: () => '', time: () => 0 }), {
      get(target, property) {
        if (mine) read = true
        return Reflect.get(target, property)
      },
      has(target, property) {
        if (mine) read = true
        return Reflect.has(target, property)
      },
    })
  make(watched(false), watched(true))
  return read
}

function doubled(inputs: TrialOptions['inputs'], lists: readonly (readonly Sample[])[]): TrialOptions['inputs'] {
  return Object.fromEntries(Object.keys(inputs).map((name) => [name, name === 'samples' ? lists : lists.map(() => [])]))
}

/** What is seen when all is read, and again when all has ended. */
async function outcome(
  options: TrialOptions,
  look: (trial: Trial) => void = () => undefined,
): Promise<Outcome & { head: unknown }> {
  const trial = new Trial(options)
  await trial.settle()
  const { state, facts } = trial.outcome()
  await trial.finish()
  look(trial)
  return { ...trial.outcome(), head: { state, facts } }
}

async function before(options: TrialOptions): Promise<Outcome> {
  const trial = new Trial(options)
  await trial.settle()
  return trial.outcome()
}

function stored(disk: MemoryDisk): string {
  const [task] = disk.tasks()
  const { epoch, facts, blobs } = disk.task(task!)!
  const list = [...blobs.values()]
    .sort((a, b) => a.order - b.order)
    .map(({ slot, format, bytes }) => ({ slot, format, bytes: Buffer.from(bytes).toString('base64') }))
  return `${JSON.stringify({ task, epoch, facts, blobs: list }, null, 1)}\n`
}

function restored(text: string): MemoryDisk {
  const { task, epoch, facts, blobs } = JSON.parse(text)
  const disk = new MemoryDisk()
  const made = disk.make(task)
  made.epoch = epoch
  made.facts = facts
  for (const { slot, format, bytes } of blobs) {
    const order = disk.number()
    made.blobs.set(order, { slot, format, bytes: Buffer.from(bytes, 'base64'), order })
  }
  return disk
}
