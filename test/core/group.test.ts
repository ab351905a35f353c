import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { MillraceError } from '../../core/errors.ts'
import type { Group, GroupMember, GroupRecord } from '../../core/group.ts'
import { silentLogger } from '../../core/logger.ts'
import { createMetrics } from '../../core/metrics.ts'
import { pipeline } from '../../core/pipeline.ts'
import type { Sink } from '../../core/sink.ts'
import type { Source } from '../../core/source.ts'
import { stream } from '../../core/stream.ts'
import { startWorker, type Worker, type WorkerOptions } from '../../core/worker.ts'
import { ChannelMemory, memoryChannels } from '../../embedded/memory-channels.ts'
import { dedup } from '../../operators/dedup.ts'
import { map } from '../../operators/map.ts'
import { scan } from '../../operators/scan.ts'
import { MemoryDisk, memoryStore } from '../../state/memory.ts'
import { listSource } from '../../testing/list-source.ts'
import { type ManualRuntime, manualRuntime, turn } from '../../testing/manual-runtime.ts'
import { anything } from '../support/number-source.ts'

const PARTITIONS = 4
const START = 1_700_000_000_000

/** A system with partitions and a group, whose assignments the test makes: none of its members knows of the others. */
class System {
  readonly runtime: ManualRuntime = manualRuntime(START)
  readonly disk = new MemoryDisk()
  readonly list = listSource(
    'events',
    Array.from({ length: PARTITIONS }, () => []),
  )
  readonly records = new Map<number, Record<string, GroupRecord>>()
  readonly members: { member: GroupMember | undefined; worker: Worker }[] = []
  private readonly known = new Set<string>()
  private readonly rows: { who: string; n: number }[] = []
  private count = 0

  async start(more: Partial<WorkerOptions> = {}): Promise<number> {
    const index = this.members.length
    const place = { member: undefined as GroupMember | undefined, worker: undefined as unknown as Worker }
    this.members.push(place)
    const group: Group = {
      name: 'the group "test"',
      join: async (member) => {
        place.member = member
      },
      recorded: async (partition) => this.records.get(partition) ?? {},
      record: async (partition, records) => {
        this.records.set(partition, { ...records })
      },
      leave: async () => {
        place.member = undefined
      },
    }
    const source: Source = {
      ...this.list,
      open: async (context, options) => ({ ...(await this.list.open(context, options)), group }),
    }
    const counted = stream(source, { schema: anything, key: (e: any) => e.who, time: (e: any) => e.at }).pipe(
      dedup({ by: (e: any) => e.id, within: '1d' }),
      scan({ seed: { n: 0 }, step: ({ n }) => ({ n: n + 1 }), ttl: '1d' }),
      map(({ n }, { key }) => ({ who: key, n })),
    )
    place.worker = await startWorker({
      pipeline: pipeline('shared', { out: counted.to(this.sink()) }),
      store: { ...memoryStore({ disk: this.disk }), shared: true },
      dataDir: 'nowhere',
      cache: false,
      env: {},
      runtime: this.runtime,
      logger: silentLogger,
      metrics: createMetrics(),
      channels: memoryChannels(new ChannelMemory()),
      workers: 2,
      ...more,
    })
    place.worker.done.catch(() => undefined)
    return index
  }

  assign(index: number, partitions: readonly number[]): void {
    this.members[index]!.member!.rebalancing()
    void this.members[index]!.member!.assigned(partitions, 0)
  }

  push(partition: number): void {
    const n = this.count++
    this.list.push({ id: n, who: `p${partition}-${n % 3}`, at: START + n }, partition)
  }

  async settle(ms = 0): Promise<void> {
    await this.runtime.advance(ms, ms > 0 ? ms / 20 : 0)
    for (let i = 0; i < 40; i++) await turn()
  }

  /** What reached the sink, each batch counted once: for each key, its counts in the order in which they came. */
  counts(): Record<string, number[]> {
    const all: Record<string, number[]> = {}
    for (const { who, n } of this.rows) (all[who] ??= []).push(n)
    return all
  }

  private sink(): Sink<any> {
    return {
      kind: 'rows',
      guarantee: 'idempotent',
      touches: 'state',
      open: async () => ({
        identity: 'rows',
        encoder: () => ({ head: 'rows', row: (value) => `${JSON.stringify(value)}\n` }),
        deliver: async ({ name, body }) => {
          await turn()
          if (!this.known.has(name)) {
            this.known.add(name)
            for (const line of Buffer.from(body).toString().trimEnd().split('\n')) this.rows.push(JSON.parse(line))
          }
          return { kind: 'applied' }
        },
        close: async () => undefined,
      }),
    }
  }
}

describe('a worker of a group', () => {
  test('works on what it is given, gives it up when it is told, and its counts stay', async () => {
    const system = new System()
    await system.start()
    for (let partition = 0; partition < PARTITIONS; partition++) system.push(partition)
    await system.settle()
    expect(system.counts()).toEqual({})
    system.assign(0, [1, 2])
    await system.settle()
    expect(Object.keys(system.counts()).sort()).toEqual(['p1-1', 'p2-2'])
    expect(system.members[0]!.worker.status()).toMatchObject({
      read: 2,
      sources: { events: { assigned: 2, partitions: 4 } },
    })
    system.assign(0, [2, 3])
    await system.settle()
    expect(Object.keys(system.counts()).sort()).toEqual(['p1-1', 'p2-2', 'p3-0'])
    expect(system.members[0]!.worker.status()).toMatchObject({
      read: 3,
      epochs: 3,
      sources: { events: { assigned: 2 } },
    })
    const drained = system.members[0]!.worker.drain()
    await system.settle(20_000)
    await drained
    expect(system.members[0]!.member).toBeUndefined()
  })

  test('together with others gives each row once and in order, whoever is given what, and whoever still thinks so', async () => {
    const assignment = fc.subarray(Array.from({ length: PARTITIONS }, (_, i) => i))
    const step = fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({
          kind: fc.constant('push' as const),
          partition: fc.integer({ min: 0, max: PARTITIONS - 1 }),
          times: fc.integer({ min: 1, max: 4 }),
        }),
      },
      {
        weight: 3,
        arbitrary: fc.record({
          kind: fc.constant('assign' as const),
          worker: fc.integer({ min: 0, max: 2 }),
          partitions: assignment,
        }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 3_000 }) }),
      },
      { weight: 1, arbitrary: fc.constant({ kind: 'turn' as const }) },
    )
    let handedOver = 0
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        const system = new System()
        for (let i = 0; i < 3; i++) await system.start()
        for (const one of steps) {
          if (one.kind === 'push') for (let i = 0; i < one.times; i++) system.push(one.partition)
          else if (one.kind === 'assign') system.assign(one.worker, one.partitions)
          else if (one.kind === 'wait') await system.settle(one.ms)
          else await turn()
        }
        handedOver += steps.filter(({ kind }) => kind === 'assign').length
        // in the end each partition is one worker's
        system.assign(0, [0, 1])
        system.assign(1, [2, 3])
        system.assign(2, [])
        await system.settle(60_000)
        const failed = await Promise.race([
          Promise.any(system.members.map(({ worker }) => worker.done)).catch((error) => error),
          turn(),
        ])
        expect(failed).toBeUndefined()
        const counts = system.counts()
        for (const [who, own] of Object.entries(counts)) expect([who, own]).toEqual([who, own.map((_, i) => i + 1)])
        const total = Object.values(counts).reduce((sum, own) => sum + own.length, 0)
        const pushed = steps.reduce((sum, one) => sum + (one.kind === 'push' ? one.times : 0), 0)
        expect(total).toBe(pushed)
      }),
      { numRuns: 60 },
    )
    expect(handedOver).toBeGreaterThan(100)
  })

  test('opens a task again when the store does not say how a commit ended, and when another one has taken it', async () => {
    const system = new System()
    let answer: 'committed' | 'unknown, applied' | 'unknown, lost' = 'committed'
    const inMemory = () => memoryStore({ disk: system.disk, flush: () => answer })
    let store = inMemory()
    await system.start({
      store: {
        ...store,
        shared: true,
        // a store that is shared knows more as soon as it is asked again
        open: (task) => (store = inMemory()).open(task),
        commit: (change) => store.commit(change),
        body: (task, name) => store.body(task, name),
      },
    })
    system.assign(0, [0])
    for (const fate of ['unknown, applied', 'unknown, lost', 'unknown, applied'] as const) {
      answer = fate
      system.push(0)
      await system.settle()
      answer = 'committed'
      await system.settle(10_000)
    }
    await system.start()
    system.assign(1, [0])
    await system.settle(2_000)
    system.push(0)
    system.assign(1, [])
    await system.settle(30_000)
    expect(Object.values(system.counts()).flat().length).toBe(4)
  })

  const refusal = async (records: Record<string, GroupRecord>, more: Partial<WorkerOptions> = {}) => {
    const system = new System()
    await system.start(more)
    system.push(0)
    system.records.set(0, records)
    system.assign(0, [0])
    await system.settle(1_000)
    const ended = await Promise.race([system.members[0]!.worker.done.catch((error) => error), turn()])
    return ended instanceof MillraceError ? `${ended.code} ${ended.message}` : Object.keys(system.counts())
  }
  const note = (store: string, epoch: number) => JSON.stringify({ store, epoch })

  test('stops when its group knows more than its store: an older copy, another one, or none at all', async () => {
    expect(await refusal({ events: { next: 5, note: note('memory', 7) } })).toMatch(
      /STATE_BEHIND shared\/main\/0: .*was told of epoch 7, and the store is at 0: .*--accept-older-state/,
    )
    expect(await refusal({ events: { next: 5, note: note('elsewhere', 7) } })).toMatch(
      /STATE_BEHIND .*another store \(elsewhere\)/,
    )
    expect(await refusal({ events: { next: 5, note: 'someone else' } })).toMatch(/STATE_BEHIND .*did not write/)
    expect(await refusal({ events: { next: 5, note: note('memory', 7) } }, { acceptOlderState: true })).toEqual([
      'p0-0',
    ])
    expect(await refusal({})).toEqual(['p0-0'])
  })

  test('tells its group how far it is, and goes on where the store says after a restart', async () => {
    const system = new System()
    await system.start()
    system.assign(0, [0])
    system.push(0)
    system.push(0)
    await system.settle(3_000)
    const { store, epoch } = JSON.parse(system.records.get(0)!.events!.note)
    expect([system.records.get(0)!.events!.next, store]).toEqual([2, 'memory'])
    expect(epoch).toBeGreaterThan(0)
  })

  test('refuses to begin beside others with a store of its own', async () => {
    const system = new System()
    await expect(system.start({ store: memoryStore({ disk: system.disk }) })).rejects.toThrow(
      /a store that all of them reach/,
    )
  })
})
