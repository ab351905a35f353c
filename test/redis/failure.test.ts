import { expect, test } from 'vitest'
import { NotReached, passes, redisFailure } from '../../redis/failure.ts'

const reply = (message: string) => Object.assign(new Error(message), { name: 'ReplyError' })

test.each([
  [reply("OOM command not allowed when used memory > 'maxmemory'. script: x, on @user_script:3."), 'refused', 'OOM'],
  [reply('ERR Error running script (call to f_1): @user_script:3: OOM command not allowed'), 'refused', 'OOM'],
  [reply("READONLY You can't write against a read only replica."), 'refused', 'READONLY'],
  [reply('LOADING Redis is loading the dataset in memory'), 'refused', 'LOADING'],
  [reply('MOVED 3999 127.0.0.1:6381'), 'refused', 'MOVED'],
  [reply('ERR something of our own making'), 'refused', 'ERR'],
  [
    new Error('Too many Cluster redirections. Last error: ReplyError: CLUSTERDOWN The cluster is down'),
    'refused',
    'CLUSTERDOWN',
  ],
  [new Error('Too many Cluster redirections. Last error: Error: Connection is closed.'), 'unknown', 'LOST'],
  [new Error('Command timed out'), 'unknown', 'LOST'],
  [new Error('Connection is closed.'), 'unknown', 'LOST'],
  [Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }), 'unknown', 'ECONNRESET'],
  [new Error("Stream isn't writeable and enableOfflineQueue options is false"), 'notSent', 'CLOSED'],
  [new NotReached('connect ECONNREFUSED 127.0.0.1:1'), 'notSent', 'CLOSED'],
  [new NotReached('WRONGPASS invalid username-password pair'), 'notSent', 'WRONGPASS'],
] as const)('%s', (error, kind, code) => {
  expect(redisFailure(error)).toMatchObject({ kind, code })
})

test('what passes by itself is told apart from what somebody has to mend', () => {
  expect(['LOADING', 'READONLY', 'CLUSTERDOWN', 'TRYAGAIN', 'BUSY', 'NOREPLICAS'].every(passes)).toBe(true)
  expect(['OOM', 'MISCONF', 'NOAUTH', 'WRONGPASS', 'NOPERM', 'WRONGTYPE', 'ERR'].some(passes)).toBe(false)
})
