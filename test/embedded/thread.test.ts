import { expect, test } from 'vitest'
import { rolledBack, ThreadError, thread } from '../../embedded/thread.ts'

const echo = (name = 'echo') => thread(new URL('../support/echo-thread.ts', import.meta.url), { name })

test('calls are answered in their order, by one thread', async () => {
  const { call, close } = echo()
  const answers = await Promise.all([1, 2, 3].map((n) => call('echo', { n })))
  expect(answers).toEqual([1, 2, 3].map((n) => ['echo', n, { n }]))
  await close()
})

test('what a method throws is its call’s error, with the code it had, and the thread goes on', async () => {
  const { call, close } = echo()
  const error = await call('fail').catch((thrown) => thrown)
  expect(error).toBeInstanceOf(ThreadError)
  expect(error).toMatchObject({ message: 'as told', code: 'SQLITE_13' })
  expect(await call('echo')).toEqual(['echo', 1, undefined])
  await close()
})

test('a thread that dies leaves its open calls without a code, and the next call starts it again', async () => {
  const { call, close } = echo()
  await call('echo')
  const open = [call('die'), call('echo')].map((each) => each.catch((thrown) => thrown))
  for (const error of await Promise.all(open)) expect(error).toMatchObject({ name: 'ThreadError', code: undefined })
  expect(await call('echo', 'again')).toEqual(['echo', 1, 'again'])
  await close()
})

test('an error that nobody caught ends the thread, not the process', async () => {
  const { call, close } = echo()
  await call('echo')
  const seen: unknown[] = [await call('crash').catch((thrown) => thrown)]
  // a call that was open is told of it; where none was, the next one finds a thread that has begun anew
  const over = (answer: unknown) => answer instanceof ThreadError || (Array.isArray(answer) && answer[1] === 1)
  for (const end = Date.now() + 20_000; Date.now() < end && !over(seen.at(-1)); )
    seen.push(await call('echo').catch((thrown) => thrown))
  for (const error of seen.filter((each) => each instanceof ThreadError))
    expect(error).toMatchObject({ message: 'crashed', code: undefined })
  expect(over(seen.at(-1))).toBe(true)
  expect(await call('echo', 'again')).toEqual(['echo', expect.any(Number), 'again'])
  await close()
})

test('what goes wrong at its beginning is told to each call', async () => {
  const { call, close } = echo('')
  await expect(call('echo')).rejects.toThrow('no name')
  await expect(call('echo')).rejects.toThrow('no name')
  await close()
})

test('a closed thread answers no more, and closing it again is nothing', async () => {
  const { call, close } = echo()
  await call('echo')
  await close()
  await close()
  await expect(call('echo')).rejects.toMatchObject({ code: 'CLOSED' })
})

test('SQLite’s refusals are told from its I/O errors and from all else', () => {
  const of = (code: string | undefined) => rolledBack(new ThreadError('x', code))
  expect(['SQLITE_13', 'SQLITE_5', 'SQLITE_1', 'SQLITE_10', 'ENOSPC', undefined].map(of)).toEqual([
    true,
    true,
    true,
    false,
    false,
    false,
  ])
  expect(rolledBack(new Error('x'))).toBe(false)
})
