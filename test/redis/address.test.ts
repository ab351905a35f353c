import { expect, test } from 'vitest'
import { redisAddress } from '../../redis/address.ts'

test.each([
  ['redis://cache', { nodes: [{ host: 'cache', port: 6379 }], db: 0, shown: 'redis://cache:6379/0' }],
  ['redis://cache:7000/2', { nodes: [{ host: 'cache', port: 7000 }], db: 2, shown: 'redis://cache:7000/2' }],
  ['redis://:pa%3Ass@cache', { password: 'pa:ss', shown: 'redis://cache:6379/0' }],
  ['redis://pass@cache', { password: 'pass' }],
  ['rediss://us%40er:pass@cache/0', { username: 'us@er', password: 'pass', tls: {}, shown: 'rediss://cache:6379/0' }],
  [
    'redis://a:1,b:2',
    {
      nodes: [
        { host: 'a', port: 1 },
        { host: 'b', port: 2 },
      ],
      shown: 'redis://a:1,b:2/0',
    },
  ],
  ['redis://[::1]:7000', { nodes: [{ host: '::1', port: 7000 }], shown: 'redis://[::1]:7000/0' }],
  [
    'redis+sentinel://a,b:7000/main/1',
    {
      nodes: [
        { host: 'a', port: 26379 },
        { host: 'b', port: 7000 },
      ],
      sentinel: 'main',
      db: 1,
      shown: 'redis+sentinel://a:26379,b:7000/main/1',
    },
  ],
])('%s is read', (url, wanted) => {
  expect(redisAddress(url, 'REDIS_URL')).toMatchObject(wanted)
})

test('the environment says what the address does not', () => {
  const env = { REDIS_USER: 'app', REDIS_PASSWORD: 'secret' }
  expect(redisAddress('redis://cache?prefix=x', 'REDIS_URL', env)).toMatchObject({
    username: 'app',
    password: 'secret',
  })
  expect(redisAddress('redis://me:mine@cache', 'REDIS_URL', env)).toMatchObject({ username: 'me', password: 'mine' })
  expect(redisAddress('redis://cache?prefix=x', 'REDIS_URL').settings.get('prefix')).toBe('x')
})

test.each([
  '',
  'cache:6379',
  'http://cache',
  'redis://',
  'redis://secret@',
  'redis://a:b:c',
  'redis://cache/zero',
  'redis://a,,b',
  'redis://a/0/1',
  'redis+sentinel://a',
  'redis+sentinel://a/',
  'redis+sentinel://a/main/zero',
])('%j is no address, and is not quoted', (url) => {
  expect(() => redisAddress(url, 'REDIS_URL')).toThrow(
    expect.objectContaining({
      code: 'BAD_OPTION',
      message: expect.stringMatching(/^REDIS_URL must be an address such as/),
    }),
  )
  if (url.includes('secret')) expect(() => redisAddress(url, 'x')).not.toThrow('secret')
})

test('a certificate that is not there is named', () => {
  const env = { REDIS_CA: 'nowhere.pem' }
  expect(() => redisAddress('rediss://cache', 'REDIS_URL', env)).toThrow(/REDIS_CA must name a file/)
  expect(redisAddress('redis://cache', 'REDIS_URL', env).tls).toBeUndefined()
})
