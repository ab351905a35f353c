import { MillraceError } from '../core/errors.ts'
import { type Runtime, systemRuntime } from '../core/runtime.ts'
import type { StoredDeadLetter } from '../core/store.ts'
import { redisAddress } from '../redis/address.ts'
import { redisConnection } from '../redis/connection.ts'
import { runScript } from '../redis/script.ts'
import { isMeant, lanesOf, type RemoteInspector, slotsOf } from './inspect.ts'
import { asking } from './redis-asking.ts'
import { readContents } from './redis-contents.ts'
import {
  LOOK,
  REDIS_FORMAT,
  readTask,
  redisDamaged,
  storeKeys,
  type TaskReply,
  type TaskRows,
  taskKeys,
} from './redis-layout.ts'
import { settingsOf } from './redis-settings.ts'
import { letterOf, rowSum, storedBatch } from './rows.ts'

export interface InspectRedisOptions {
  /** As the store was given it. */
  readonly url: string
  /** @default none of `REDIS_USER` and its like */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** @default the machine's */
  readonly runtime?: Runtime
}

interface NamedTask extends TaskRows {
  readonly name: string
}

const LETTERS_AT_ONCE = 100

/**
 * A view of the state in a Redis from outside the workers, also while they run. Each call sees each task as of one commit.
 *
 * @throws MillraceError NOT_FOUND when no pipeline has kept its state there; BAD_OPTION, STATE_FAILED, STATE_TOO_NEW
 */
export async function inspectRedis({
  url,
  env = {},
  runtime = systemRuntime,
}: InspectRedisOptions): Promise<RemoteInspector> {
  const address = redisAddress(url, 'store', env)
  const { prefix, timeout } = settingsOf({}, address.settings)
  const place = `${address.shown}${prefix === 'millrace' ? '' : ` (${prefix})`}`
  const keys = storeKeys(prefix)
  const connection = redisConnection(address, { timeout })
  const asked = asking(connection, runtime, place, timeout)
  const { told } = asked

  let identity: { format: number; id: string }
  try {
    const [format, id] = await told((client) => client.hmget(keys.meta, 'format', 'id'))
    if (format === null || id === null) {
      throw new MillraceError(
        'NOT_FOUND',
        `there is no state in ${place}: no pipeline has run with it; say with --store where one has`,
      )
    }
    if (Number(format) > REDIS_FORMAT) {
      throw new MillraceError(
        'STATE_TOO_NEW',
        `the state in ${place} is of version ${format}, and this Millrace knows versions up to ${REDIS_FORMAT}`,
      )
    }
    identity = { format: Number(format), id: id! }
  } catch (error) {
    connection.close()
    throw error
  }

  async function tasks(only?: string): Promise<NamedTask[]> {
    const names = (await told((client) => client.smembers(keys.tasks))).sort()
    const some = names.filter((name) => only === undefined || name === only)
    const found = await Promise.all(
      some.map(async (name) => {
        const at = taskKeys(prefix, name)
        const reply = await told((client) => runScript(client, LOOK, [at.task, at.blobs, at.batches], []))
        const rows = readTask(place, name, reply as TaskReply)
        return rows && { ...rows, name }
      }),
    )
    return found.filter((task) => task !== undefined)
  }

  async function* lettersOf(name: string, after = 0): AsyncGenerator<StoredDeadLetter> {
    for (let from = after; ; ) {
      const some = await range(name, `(${from}-0`, '+', LETTERS_AT_ONCE)
      yield* some
      if (some.length < LETTERS_AT_ONCE) return
      from = some.at(-1)!.id
    }
  }

  async function range(name: string, from: string, to: string, limit: number): Promise<StoredDeadLetter[]> {
    const entries = await told((client) =>
      client.xrangeBuffer(taskKeys(prefix, name).letters, from, to, 'COUNT', limit),
    )
    return entries.map(([key, fields]) => {
      const id = Number.parseInt(String(key), 10)
      const row = String(fields[1])
      const text = row.slice(row.indexOf(' ') + 1)
      const bytes = new Uint8Array(fields[3]!)
      if (rowSum('letters', id, text, bytes) !== Number.parseInt(row, 10))
        throw redisDamaged(place, `dead letter ${id} fails its checksum`)
      return letterOf(id, text, bytes)
    })
  }

  /** Those of all tasks, in the order of their numbers. */
  async function* letters(names: readonly string[], after?: number): AsyncGenerator<StoredDeadLetter> {
    const lists = names.map((name) => lettersOf(name, after))
    const heads = await Promise.all(lists.map((list) => list.next()))
    for (;;) {
      let first = -1
      for (const [n, head] of heads.entries())
        if (!head.done && (first < 0 || head.value.id < (heads[first]!.value as StoredDeadLetter).id)) first = n
      if (first < 0) return
      yield heads[first]!.value as StoredDeadLetter
      heads[first] = await lists[first]!.next()
    }
  }

  /** What was read of a task's rows is as of one commit; the bytes that they name may be gone by a later one. */
  async function steadily<T>(rows: NamedTask, look: (rows: NamedTask) => Promise<T>): Promise<T> {
    for (let task = rows; ; ) {
      try {
        return await look(task)
      } catch (error) {
        const [now] = await tasks(task.name)
        if (now === undefined || now.head.commits === task.head.commits) throw error
        task = now
      }
    }
  }

  async function verified({ name, blobs, batches, head }: NamedTask): Promise<number> {
    const wanted = [
      ...blobs.map(({ content, slot }) => ({ content, what: `${name}: state of ${slot}` })),
      ...batches.map(({ content, name: batch }) => ({ content, what: `batch ${batch}` })),
    ]
    const contents = await readContents(asked, place, taskKeys(prefix, name).pieces, wanted)
    let bytes = contents.reduce((sum, { length }) => sum + length, 0)
    let count = 0
    for await (const letter of lettersOf(name)) {
      if (letter.id > head.lastLetter) break
      bytes += letter.bytes.length
      count += 1
    }
    if (count === head.letters[0]) return bytes
    throw redisDamaged(place, `${name}: ${count} dead letters where ${head.letters[0]} were written`)
  }

  const namesOf = async (task?: string) => (await tasks(task)).map(({ name }) => name)
  const staged = async (task?: string) =>
    (await tasks(task)).flatMap(({ name, batches }) => batches.map((row) => ({ ...storedBatch(row), task: name })))

  return {
    async store() {
      const all = await tasks()
      const sizes = all.flatMap(({ blobs, batches }) => [...blobs, ...batches].map(({ content }) => content.size))
      return {
        ...identity,
        commits: all.reduce((sum, { head }) => sum + head.commits, 0),
        behind: false,
        bytes: sizes.reduce((sum, size) => sum + size, 0),
        logBytes: 0,
      }
    },
    tasks: async () =>
      (await tasks()).map(({ name, fence, deaths, head: { epoch, facts, receipts } }) => ({
        task: name,
        fence,
        epoch,
        deaths,
        facts,
        receipts,
      })),
    lanes: async (task) => lanesOf(await staged(task)),
    staged,
    slots: async (task) => (await tasks(task)).flatMap(({ name, blobs }) => slotsOf(name, blobs)),
    async blobs(task, slot) {
      const found = (await tasks(task)).map((rows) =>
        steadily(rows, async ({ blobs }) => {
          const rows = blobs.filter((row) => row.slot === slot)
          const wanted = rows.map(({ content }) => ({ content, what: `${task}: state of ${slot}` }))
          const bytes = await readContents(asked, place, taskKeys(prefix, task).pieces, wanted)
          return rows.map(({ id, format }, n) => ({ id, slot, format, bytes: bytes[n]! }))
        }),
      )
      return (await Promise.all(found)).flat()
    },
    deadLetters: {
      async list({ after, limit = LETTERS_AT_ONCE, ...filter } = {}) {
        const found: StoredDeadLetter[] = []
        if (limit === 0) return found
        for await (const letter of letters(await namesOf(filter.task), after)) {
          if (isMeant(filter)(letter)) found.push(letter)
          if (found.length === limit) break
        }
        return found
      },
      async get(id) {
        const found = await Promise.all((await namesOf()).map((name) => range(name, `${id}-0`, `${id}-0`, 1)))
        return found.flat()[0]
      },
      async count(filter = {}) {
        const names = await namesOf(filter.task)
        if (filter.where === undefined) {
          const counts = await Promise.all(
            names.map((name) => told((client) => client.xlen(taskKeys(prefix, name).letters))),
          )
          return counts.reduce((sum, count) => sum + count, 0)
        }
        let count = 0
        for await (const letter of letters(names)) if (isMeant(filter)(letter)) count += 1
        return count
      },
    },
    async verify() {
      let bytes = 0
      for (const task of await tasks()) bytes += await steadily(task, verified)
      return bytes
    },
    close: async () => connection.close(),
  }
}
