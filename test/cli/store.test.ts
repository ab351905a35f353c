import { rmSync } from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { eventLines, type Place, pipelineText, place } from '../support/command.ts'
import { need } from '../support/servers/need.ts'
import { type RedisServer, startRedis } from '../support/servers/redis-server.ts'

need('redis')('millrace --store redis://…', () => {
  let here: Place
  let server: RedisServer
  const run = (...more: string[]) =>
    here.run('run', 'mine.ts', '--input', 'events=events.jsonl', '--until-end', '--log-level', 'silent', ...more)

  beforeEach(async () => {
    here = place()
    server = await startRedis()
    here.write('mine.ts', pipelineText())
  })
  afterEach(async () => {
    here.remove()
    await server.remove()
  })

  test('keeps the state there: a run in another folder goes on with it, and the commands look into it', async () => {
    const store = ['--store', server.url]
    here.write('events.jsonl', `${eventLines(0, 50)}${eventLines(0, 5)}no event\n`)
    const first = await run('--json', ...store)
    expect([first.code, JSON.parse(first.out)]).toMatchObject([0, { read: 56, deadLetters: 1, duplicates: 5 }])
    rmSync(here.path('.millrace'), { recursive: true })
    const second = await run('--json', ...store)
    expect([second.code, JSON.parse(second.out).read]).toEqual([0, 0])

    const lines = async (...args: string[]) => {
      const { code, out, err } = await here.run(...args, '--json', ...store)
      expect([code, err]).toEqual([0, ''])
      return out
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line))
    }
    expect(await lines('dead-letters', 'list')).toMatchObject([{ id: 1, where: 'decode', text: 'no event' }])
    expect(await lines('dead-letters', 'show', '1')).toMatchObject([{ id: 1 }])
    expect(await lines('state', 'list')).toMatchObject([{ task: 'mine/main/0', slot: 'dedup/seen', entries: 50 }])
    expect(await lines('state', 'size')).toMatchObject([{ store: { behind: false }, lanes: [] }])
    expect(await lines('check', 'mine.ts')).toMatchObject([{ stored: 'compared with 1 task in the store' }])
  })

  test('is killed in the middle of its work, again and again, and each row is there once', async () => {
    const events = 30_000
    here.write('events.jsonl', `${eventLines(0, events)}${eventLines(100, 200)}`)
    const args = ['run', 'mine.ts', '--input', 'events=events.jsonl', '--until-end', '--log-level', 'silent']
    const view = () => client.hget('millrace:{mine/main/0}:task', 'commits').then(Number)
    const client = server.client()
    for (let kill = 0, commits = 0; kill < 3; kill++) {
      const child = here.start(...args, '--store', server.url)
      const over = child.ended.then(() => true)
      let done = false
      while (!done && (await view()) <= commits + 3)
        done = await Promise.race([over, new Promise<boolean>((resolve) => setTimeout(resolve, 2, false))])
      child.kill('SIGKILL')
      expect((await child.ended).code).toBeNull()
      commits = await view()
    }
    const { code } = await run('--store', server.url)
    expect(code).toBe(0)
    expect(here.rows()).toEqual(Array.from({ length: events }, (_, id) => id))
  })

  test('goes on when Redis is killed and started again under it', async () => {
    const events = 60_000
    here.write('events.jsonl', eventLines(0, events))
    const args = ['run', 'mine.ts', '--input', 'events=events.jsonl', '--until-end', '--log-level', 'silent']
    const child = here.start(...args, '--store', server.url)
    const over = child.ended.then(() => true)
    for (let kill = 0; kill < 3; kill++) {
      const client = server.client()
      const commits = () => client.hget('millrace:{mine/main/0}:task', 'commits').then(Number)
      const before = await commits()
      let done = false
      while (!done && (await commits()) <= before + 1)
        done = await Promise.race([over, new Promise<boolean>((resolve) => setTimeout(resolve, 2, false))])
      await server.kill()
      await server.start()
    }
    expect((await child.ended).code).toBe(0)
    expect(here.rows()).toEqual(Array.from({ length: events }, (_, id) => id))
  })

  test('says what it was given, without the password in it', async () => {
    here.write('events.jsonl', eventLines(0, 5))
    const wrong = await run('--store', 'redis://:geheim@')
    expect(wrong.code).toBe(2)
    expect(wrong.err).toContain('BAD_OPTION')
    await server.kill()
    const gone = await run('--store', `redis://:geheim@127.0.0.1:${server.port}?patience=100ms`)
    expect(gone.code).toBe(4)
    expect(gone.err).toContain(`the state store redis://127.0.0.1:${server.port}/0: not reached`)
    expect(wrong.err + gone.err).not.toContain('geheim')
    const other = await run('--store', 'postgres://x')
    expect([other.code, other.err]).toEqual([2, expect.stringContaining('--store must be the address of a Redis')])
  })
})
