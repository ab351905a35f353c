/**
 * A process that commits until it is killed: `state-writer.ts PATH TASKS [BODY BYTES]`. It prints `TASK EPOCH` when a
 * commit was answered for, and `TASK KIND` when one was not committed.
 */
import { writeSync } from 'node:fs'
import { systemRuntime } from '../../core/runtime.ts'
import { sqliteStore } from '../../state/sqlite.ts'

const [path = '', tasks = '2', bodyBytes = '2000'] = process.argv.slice(2)
const store = await sqliteStore({ path, runtime: systemRuntime })
const say = (line: string) => writeSync(1, `${line}\n`)

async function work(task: string): Promise<void> {
  const { fence, epoch: last, blobs } = await store.open(task)
  const text = blobs.map(({ bytes }) => new TextDecoder().decode(bytes)).join('')
  if (blobs.length > 1) {
    const replaces = blobs.map(({ id }) => id)
    await store.commit({
      task,
      fence,
      compactions: [{ slot: 'log', format: 'text', replaces, bytes: new TextEncoder().encode(text) }],
    })
  }
  say(`${task} ${last}`)
  for (let epoch = last + 1; ; epoch += 1) {
    const { kind } = await store.commit({
      task,
      fence,
      epoch,
      facts: String(epoch),
      blobs: [{ slot: 'log', format: 'text', bytes: new TextEncoder().encode(`${epoch},`) }],
      staged: [
        {
          name: `b${epoch}`,
          sink: 'rows',
          head: '',
          rows: 1,
          body: new Uint8Array(Number(bodyBytes)).fill(epoch),
          stagedAt: epoch,
          oldest: epoch,
          newest: epoch,
          arrived: epoch,
        },
      ],
      ...(epoch > 3 ? { lanes: [{ sink: 'rows', remove: [`b${epoch - 3}`], receipt: `b${epoch - 3}` }] } : {}),
    })
    if (kind !== 'committed') {
      say(`${task} ${kind}`)
      return
    }
    say(`${task} ${epoch}`)
  }
}

await Promise.all(Array.from({ length: Number(tasks) }, (_, index) => work(`t/${index}`)))
await store.close()
