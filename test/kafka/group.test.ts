import { tmpdir } from 'node:os'
import { Kafka, logLevel } from 'kafkajs'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { Duration } from '../../core/duration.ts'
import type { Group } from '../../core/group.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { sharing } from '../../core/share.ts'
import type { OpenSource } from '../../core/source.ts'
import { kafkaSource } from '../../sources/kafka.ts'
import { type KafkaBroker, startKafka } from '../support/servers/kafka-broker.ts'
import { need } from '../support/servers/need.ts'
import { connectorContext } from '../support/sink-suite.ts'

const ALL = [0, 1, 2, 3, 4, 5, 6, 7]

/** A worker as its group sees it, and what it was told. */
interface Worker {
  readonly group: Group
  readonly open: OpenSource
  readonly log: (readonly number[] | 'rebalancing' | Error)[]
  mine(): readonly number[]
  /** Stops its clock, as SIGSTOP would, until it is called again. */
  freeze(): void
}

need('kafka')('a consumer group on a real Kafka', () => {
  let broker: KafkaBroker
  let topics = 0
  const workers: Worker[] = []
  beforeAll(async () => {
    broker = await startKafka()
  })
  afterAll(() => broker?.remove())
  afterEach(async () => {
    for (const { group, open } of workers.splice(0)) {
      await group.leave()
      await open.close()
    }
  })

  async function worker(
    driver: string,
    group: string,
    topic: string,
    { more = [], sessionTimeout = '2s' }: { more?: readonly string[]; sessionTimeout?: Duration } = {},
  ): Promise<Worker> {
    let thaw: (() => void) | undefined
    let frozen = Promise.resolve()
    const runtime = {
      ...systemRuntime,
      sleep: async (ms: number, signal?: AbortSignal) => {
        await systemRuntime.sleep(ms, signal)
        await frozen
      },
    }
    const context = connectorContext(tmpdir(), {
      pipeline: group,
      runtime,
      share: sharing(),
      env: { KAFKA_BROKERS: broker.brokers, KAFKA_DRIVER: driver },
    })
    const opens = await Promise.all(
      [topic, ...more].map((name) => kafkaSource({ topic: name, sessionTimeout }).open(context, { untilEnd: false })),
    )
    const open = { ...opens[0]!, close: async () => void (await Promise.all(opens.map((one) => one.close()))) }
    const log: Worker['log'] = []
    const made: Worker = {
      group: open.group!,
      open,
      log,
      mine: () => log.findLast((entry): entry is readonly number[] => Array.isArray(entry)) ?? [],
      freeze() {
        if (thaw) thaw()
        else ({ promise: frozen, resolve: thaw } = Promise.withResolvers<void>())
      },
    }
    workers.push(made)
    await made.group.join({
      rebalancing: () => void log.push('rebalancing'),
      assigned: async (partitions) => void log.push(partitions),
      failed: (error) => void log.push(error as Error),
    })
    return made
  }
  const shared = (some: readonly Worker[]) => some.flatMap((one) => one.mine()).sort((a, b) => a - b)
  const even = (some: readonly Worker[]) =>
    expect
      .poll(() => [shared(some), some.map((one) => one.mine().length)], { timeout: 40_000, interval: 20 })
      .toEqual([ALL, some.map(() => ALL.length / some.length)])

  for (const driver of ['kafkajs', 'platformatic']) {
    const topic = async (partitions = 8) => {
      const name = `topic-${++topics}`
      await broker.topic(name, partitions)
      return name
    }

    test(`${driver}: members share the partitions, keep what they can, and take over what another gives up`, async () => {
      const name = await topic()
      const first = await worker(driver, `share-${name}`, name, { sessionTimeout: '30s' })
      await even([first])
      const second = await worker(driver, `share-${name}`, name, { sessionTimeout: '30s' })
      await even([first, second])
      const kept = first.mine()
      expect(first.log).toContain('rebalancing')
      await second.group.leave()
      const left = performance.now()
      await even([first])
      // far below the session's end: the group was told
      expect(performance.now() - left).toBeLessThan(15_000)
      expect(first.mine()).toEqual(expect.arrayContaining([...kept]))
    })

    test(`${driver}: the partitions of one that is silent go to others, and it comes back into the group`, async () => {
      const name = await topic()
      const first = await worker(driver, `silent-${name}`, name)
      const second = await worker(driver, `silent-${name}`, name)
      await even([first, second])
      second.freeze()
      await even([first])
      second.freeze()
      await even([first, second])
      expect(second.log.slice(0, second.log.lastIndexOf('rebalancing'))).toContainEqual(expect.any(Array))
    })

    test(`${driver}: partition i of every topic goes to the same worker, as Kafka’s own tools see it, too`, async () => {
      const [one, two] = [await topic(), await topic()]
      const first = await worker(driver, `both-${one}`, one, { more: [two] })
      await even([first])
      const { groups } = await (await broker.admin()).describeGroups([`both-${one}`])
      const { members } = groups[0]!
      expect(members).toHaveLength(1)
      const text = members[0]!.memberAssignment.toString()
      expect(text).toContain(one)
      expect(text).toContain(two)
    })
  }

  test('a death of the broker is no end of the membership', { timeout: 120_000 }, async () => {
    const name = `topic-${++topics}`
    await broker.topic(name, 8)
    const first = await worker('kafkajs', `death-${name}`, name)
    await even([first])
    const before = first.log.length
    await broker.kill()
    await broker.start()
    await expect
      .poll(
        () =>
          first.group.record(0, { [name]: { next: 1, note: 'x' } }).then(
            () => true,
            () => false,
          ),
        { timeout: 40_000 },
      )
      .toBe(true)
    await even([first])
    expect(first.log.slice(before).filter((entry) => entry instanceof Error)).toEqual([])
  })
  test('what was recorded is given back, by source, and what was not is absent', async () => {
    const name = `topic-${++topics}`
    await broker.topic(name, 8)
    const first = await worker('kafkajs', `record-${name}`, name)
    await even([first])
    expect(await first.group.recorded(3)).toEqual({})
    await first.group.record(3, { [name]: { next: 17, note: 'store 1 epoch 4' } })
    expect(await first.group.recorded(3)).toEqual({ [name]: { next: 17, note: 'store 1 epoch 4' } })
    expect(await first.group.recorded(4)).toEqual({})
    const [found] = await (await broker.admin()).fetchOffsets({ groupId: `record-${name}`, topics: [name] })
    expect(found!.partitions.find(({ partition }) => partition === 3)!.offset).toBe('17')
  })

  test('a group that another kind of member is in is refused, with a reason', async () => {
    const name = `topic-${++topics}`
    await broker.topic(name, 8)
    const consumer = new Kafka({ brokers: [broker.brokers], logLevel: logLevel.NOTHING }).consumer({
      groupId: `other-${name}`,
    })
    await consumer.connect()
    await consumer.subscribe({ topic: name })
    const { promise: joined, resolve } = Promise.withResolvers<void>()
    consumer.on(consumer.events.GROUP_JOIN, () => resolve())
    await consumer.run({ eachMessage: async () => undefined })
    await joined
    const first = await worker('kafkajs', `other-${name}`, name)
    await expect
      .poll(() => first.log)
      .toEqual([
        expect.objectContaining({
          code: 'SOURCE_FAILED',
          message: expect.stringMatching(/INCONSISTENT_GROUP_PROTOCOL \(another program is in the group/),
        }),
      ])
    await consumer.disconnect()
  })
})
