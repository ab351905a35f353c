import { expect, test } from 'vitest'
import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { sharing } from '../../core/share.ts'
import type { Delivery, OpenSink, Outcome, RowMeta, Sink } from '../../core/sink.ts'
import type { ConnectorContext } from '../../core/source.ts'

/** A system and a sink for it, made anew for each test of the suite. */
export interface SinkUnderTest<T> {
  /** A sink for the same place of the system at each call, as two starts of a pipeline would have it. */
  sink(): Sink<T>
  readonly context: ConnectorContext
  /** So many rows, all different, that the system takes. The same at each call. */
  rows(count: number): readonly T[]
  /** What the system holds now, in any order, one entry an applied row. */
  read(): Promise<readonly unknown[]>
  /** How `read` shows a row. @default the row itself */
  shown?(row: T): unknown
  /** A row that cannot be encoded. */
  readonly unencodable?: T
  /** Takes the system away so that a request surely does not reach it; absent when it cannot be (a folder, say). */
  down?(): Promise<void>
  /** Frees the system and what it kept. */
  close(): Promise<void>
}

/** A connector's context with the machine's clock, no real system in its environment, and nobody reached. */
export function connectorContext(dataDir: string, given: Partial<ConnectorContext> = {}): ConnectorContext {
  return {
    pipeline: 'suite',
    stage: 'main',
    dataDir,
    env: {},
    live: false,
    runtime: systemRuntime,
    logger: silentLogger,
    metrics: createMetrics(),
    share: sharing(),
    ...given,
  }
}

/** What the engine tells an encoder of the n-th row. */
export function rowMeta(n: number): RowMeta {
  return {
    key: `key-${n}`,
    time: 1_700_000_000_000 + n,
    cause: `suite/0/${n}`,
    now: () => 1_700_000_100_000 + n,
    version: () => 1_700_000_100_000_000 + n,
  }
}

/** Rows as the engine stages them: encoded once, one after the other, under a name. */
export function staged<T>(
  open: OpenSink<T>,
  rows: readonly T[],
  {
    name = `life/suite/main/0/1/sink/0`,
    task = 'suite/main/0',
    first = 0,
    ...given
  }: Partial<Delivery> & { first?: number } = {},
): Delivery {
  const encoder = open.encoder(task)
  const body = Buffer.from(rows.map((row, n) => encoder.row(row, rowMeta(first + n))).join(''))
  return {
    name,
    task,
    head: encoder.head,
    body,
    rows: rows.length,
    stagedAt: systemRuntime.now(),
    attempt: 1,
    afterUnknown: false,
    ...given,
  }
}

const KINDS: readonly Outcome['kind'][] = ['applied', 'rejected', 'notSent', 'unknown']
const never = () => new AbortController().signal
const sorted = (values: readonly unknown[]) => values.map((value) => JSON.stringify(value)).sort()

/** What every sink must do, whatever its system: the port's promises, tried on the real thing. */
export function sinkSuite<T>(name: string, make: () => Promise<SinkUnderTest<T>>): void {
  const trial = (title: string, run: (it: SinkUnderTest<T>) => Promise<void>) =>
    test(`${name}: ${title}`, async () => {
      const it = await make()
      try {
        await run(it)
      } finally {
        await it.close()
      }
    })
  const opened = async (it: SinkUnderTest<T>, run: (open: OpenSink<T>) => Promise<void>) => {
    const open = await it.sink().open(it.context)
    try {
      await open.attach?.('suite/main/0', undefined)
      await run(open)
    } finally {
      await open.close()
    }
  }
  const shown = (it: SinkUnderTest<T>, rows: readonly T[]) =>
    sorted(rows.map((row) => (it.shown ? it.shown(row) : row)))

  trial('what was delivered can be read back', (it) =>
    opened(it, async (open) => {
      const rows = it.rows(100)
      const outcome = await open.deliver(staged(open, rows), never())
      expect(outcome.kind).toBe('applied')
      expect(sorted(await it.read())).toEqual(shown(it, rows))
    }),
  )

  trial('batches of one task add up, in their order', (it) =>
    opened(it, async (open) => {
      const rows = it.rows(30)
      for (let n = 0; n < 3; n++) {
        const delivery = staged(open, rows.slice(n * 10, n * 10 + 10), {
          name: `life/suite/main/0/${n}/sink/0`,
          first: n * 10,
        })
        expect((await open.deliver(delivery, never())).kind).toBe('applied')
      }
      expect(sorted(await it.read())).toEqual(shown(it, rows))
    }),
  )

  trial('a batch that is sent again after an unknown outcome changes nothing, if the sink is idempotent', (it) =>
    opened(it, async (open) => {
      if ((open.guarantee ?? it.sink().guarantee) !== 'idempotent') return
      const delivery = staged(open, it.rows(20))
      await open.deliver(delivery, never())
      const once = sorted(await it.read())
      for (const attempt of [2, 3]) {
        const again = await open.deliver({ ...delivery, attempt, afterUnknown: true }, never())
        expect(again.kind).toBe('applied')
        expect(sorted(await it.read())).toEqual(once)
      }
    }),
  )

  trial('it holds over a close and another opening', async (it) => {
    const rows = it.rows(20)
    let delivery: Delivery | undefined
    let receipt: string | undefined
    await opened(it, async (open) => {
      delivery = staged(open, rows)
      const outcome = await open.deliver(delivery, never())
      if (outcome.kind === 'applied') receipt = outcome.receipt
    })
    const open = await it.sink().open(it.context)
    try {
      await open.attach?.('suite/main/0', receipt)
      if ((open.guarantee ?? it.sink().guarantee) === 'idempotent')
        expect((await open.deliver({ ...delivery!, attempt: 2, afterUnknown: true }, never())).kind).toBe('applied')
      expect(sorted(await it.read())).toEqual(shown(it, rows))
    } finally {
      await open.close()
    }
  })

  trial('encoding is a function of the row and its meta alone', (it) =>
    opened(it, async (open) => {
      const other = await it.sink().open(it.context)
      try {
        const rows = it.rows(50)
        expect(other.encoder('suite/main/0').head).toBe(open.encoder('suite/main/0').head)
        expect(Buffer.from(staged(other, rows).body).equals(Buffer.from(staged(open, rows).body))).toBe(true)
      } finally {
        await other.close()
      }
    }),
  )

  trial('a row that cannot be encoded throws, and leaves the encoder fit for the next', (it) =>
    opened(it, async (open) => {
      if (it.unencodable === undefined) return
      const encoder = open.encoder('suite/main/0')
      const [good] = it.rows(1)
      const before = encoder.row(good!, rowMeta(0))
      expect(() => encoder.row(it.unencodable!, rowMeta(1))).toThrow()
      expect(encoder.row(good!, rowMeta(0))).toBe(before)
    }),
  )

  trial('an aborted delivery ends with an outcome, and what follows it holds each row once', (it) =>
    opened(it, async (open) => {
      const rows = it.rows(200)
      const delivery = staged(open, rows)
      const controller = new AbortController()
      const first = open.deliver(delivery, controller.signal)
      controller.abort()
      const outcome = await first.catch((): Outcome => ({ kind: 'unknown', reason: 'it threw' }))
      expect(KINDS).toContain(outcome.kind)
      if (outcome.kind !== 'applied') {
        if ((open.guarantee ?? it.sink().guarantee) !== 'idempotent' && outcome.kind === 'unknown') return
        const again = { ...delivery, attempt: 2, afterUnknown: outcome.kind === 'unknown' }
        expect((await open.deliver(again, never())).kind).toBe('applied')
      }
      expect(sorted(await it.read())).toEqual(shown(it, rows))
    }),
  )

  trial('a delivery under a signal that has aborted already is over at once, and is not applied by halves', (it) =>
    opened(it, async (open) => {
      const outcome = await open.deliver(staged(open, it.rows(5)), AbortSignal.abort())
      expect(KINDS).toContain(outcome.kind)
      if (outcome.kind === 'notSent') expect(await it.read()).toEqual([])
    }),
  )

  trial('a system that is not there is notSent', (it) =>
    opened(it, async (open) => {
      if (!it.down) return
      const delivery = staged(open, it.rows(5))
      await it.down()
      const outcome = await open
        .deliver(delivery, never())
        .catch((error: unknown): Outcome => ({ kind: 'unknown', reason: String(error) }))
      expect(outcome.kind).toBe('notSent')
    }),
  )

  trial('its identity is the same at every start', async (it) => {
    const seen: string[] = []
    for (let n = 0; n < 2; n++) await opened(it, async (open) => void seen.push(open.identity))
    expect(seen[0]).toBe(seen[1])
    expect(seen[0]).not.toBe('')
  })

  trial('closing it twice is closing it once', async (it) => {
    const open = await it.sink().open(it.context)
    await open.close()
    await open.close()
  })
}
