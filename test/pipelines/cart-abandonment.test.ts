import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { silentLogger } from '../../core/logger.ts'
import { systemRuntime } from '../../core/runtime.ts'
import { openLog } from '../../embedded/log.ts'
import { openWarehouse } from '../../embedded/warehouse.ts'
import { cartAbandonment } from '../../pipelines/cart-abandonment.ts'
import { connectClickHouse } from '../../sinks/clickhouse-client.ts'
import { fileSource } from '../../sources/file.ts'
import { logSource } from '../../sources/log.ts'
import { inspect } from '../../state/inspect.ts'
import { abandonedCarts, captured } from '../support/carts.ts'
import { runToEnd } from '../support/run.ts'

const DATA = join(import.meta.dirname, '../../../shared/data')
const DIRTY = join(DATA, 'retailrocket_dirty.jsonl')
const CLEAN = join(DATA, 'retailrocket.jsonl')
const EDGE = join(DATA, 'edge_carts.jsonl')
const linesOf = (path: string) => readFileSync(path, 'latin1').trimEnd().split('\n')

let dataDir: string
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'millrace-carts-'))
})
afterEach(() => {
  rmSync(dataDir, { recursive: true, force: true })
})

async function warehouseCount(): Promise<{ rows: number; distinct: number }> {
  const warehouse = await openWarehouse({ dataDir, runtime: systemRuntime, logger: silentLogger })
  const client = connectClickHouse({ ...warehouse, database: 'default' } as never)
  try {
    const result = await client.query({
      query: 'SELECT toUInt32(count()) AS rows, toUInt32(uniqExact(eventId)) AS distinct FROM events',
      format: 'JSONEachRow',
    })
    return ((await result.json()) as { rows: number; distinct: number }[])[0]!
  } finally {
    await client.close()
    await warehouse.close()
  }
}

describe('on real events', () => {
  test('the dirty file gives each event once, each reminder once, and sets aside what is malformed', async () => {
    const status = await runToEnd(cartAbandonment, dataDir, { 'shop.events': fileSource({ path: DIRTY }) })
    expect(status).toMatchObject({ state: 'ended', read: 9_600, deadLetters: 25, duplicates: 193, late: 0 })
    expect(await warehouseCount()).toEqual({ rows: 9_382, distinct: 9_382 })
    expect(captured(dataDir)).toEqual(abandonedCarts(linesOf(CLEAN)))
    expect(captured(dataDir)).toHaveLength(125)
    expect(new Set(captured(dataDir).map((mail) => mail.split('/')[0])).size).toBe(115)

    const inspector = inspect(join(dataDir, 'state.db'))
    const letters = inspector.deadLetters.list({ limit: 100 })
    inspector.close()
    expect(letters).toHaveLength(25)
    const file = readFileSync(DIRTY)
    for (const letter of letters) {
      expect(letter.reason).not.toBe('')
      expect(
        Buffer.from(letter.bytes).equals(file.subarray(letter.position, letter.position + letter.bytes.length)),
      ).toBe(true)
    }
  })

  test('the clean file gives the same, and a second start does nothing twice', async () => {
    const first = await runToEnd(cartAbandonment, dataDir, { 'shop.events': fileSource({ path: CLEAN }) })
    expect(first).toMatchObject({ read: 9_385, deadLetters: 0, duplicates: 3 })
    const second = await runToEnd(cartAbandonment, dataDir, { 'shop.events': fileSource({ path: CLEAN }) })
    expect(second).toMatchObject({ state: 'ended', read: 0 })
    expect(await warehouseCount()).toEqual({ rows: 9_382, distinct: 9_382 })
    expect(captured(dataDir)).toEqual(abandonedCarts(linesOf(CLEAN)))
  })

  test('carts and purchases around the half hour, out of order, go by event time', async () => {
    const status = await runToEnd(cartAbandonment, dataDir, { 'shop.events': fileSource({ path: EDGE }) })
    expect(status).toMatchObject({ duplicates: 66, late: 0 })
    expect(captured(dataDir)).toEqual(abandonedCarts(linesOf(EDGE)))
    expect(captured(dataDir)).toHaveLength(759)
  })

  test.each([1, 3, 8])('through the embedded log with %i partitions it gives the same', async (partitions) => {
    const log = await openLog({
      dataDir,
      log: 'shop.events',
      partitions,
      runtime: systemRuntime,
      sync: 'never',
    } as never)
    await log.produce(
      linesOf(DIRTY).map((line) => {
        let key = ''
        try {
          key = String((JSON.parse(line) as { visitorId: unknown }).visitorId)
        } catch {}
        return { key, value: Buffer.from(line, 'latin1'), timestamp: 0 }
      }) as never,
    )
    await log.close()
    const status = await runToEnd(cartAbandonment, dataDir, { 'shop.events': logSource({ log: 'shop.events' }) })
    expect(status).toMatchObject({ read: 9_600, deadLetters: 25, duplicates: 193 })
    expect(await warehouseCount()).toEqual({ rows: 9_382, distinct: 9_382 })
    expect(captured(dataDir)).toEqual(abandonedCarts(linesOf(CLEAN)))
  })
})
