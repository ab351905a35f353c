import { ClickHouseError } from '@clickhouse/client'
import { expect, test } from 'vitest'
import { failureOf } from '../../sinks/clickhouse-errors.ts'

const exception = (code: string, type: string, message = '') => new ClickHouseError({ code, type, message })

test('only exceptions of parsing and of types are rejections', () => {
  for (const code of ['6', '27', '41', '53', '72', '349', '469', '691'])
    expect(failureOf(exception(code, 'ANY')).kind).toBe('rejected')
  for (const code of ['33', '60', '159', '209', '210', '236', '241', '252', '319', '999', '1002'])
    expect(failureOf(exception(code, 'CANNOT_PARSE_TEXT')).kind).toBe('unknown')
})

test('a reason has the exception’s name and the column, and nothing of the row', () => {
  const message = `Cannot parse input: expected '"' before: 'secret (TYPE_MISMATCH) at row 3': (while reading the value of key n): `
  expect(failureOf(exception('27', 'TYPE_MISMATCH', message))).toEqual({
    kind: 'rejected',
    code: 27,
    reason: 'CANNOT_PARSE_INPUT_ASSERTION_FAILED (27) in column n',
  })
})

test('a server that is not trusted was sent nothing, and the reason says what to do', () => {
  const failure = (code: string) => failureOf(Object.assign(new Error('x'), { code }))
  expect(failure('DEPTH_ZERO_SELF_SIGNED_CERT')).toMatchObject({
    kind: 'notSent',
    reason: expect.stringContaining('CLICKHOUSE_CA_FILE'),
  })
  expect(failure('ERR_TLS_CERT_ALTNAME_INVALID').reason).toMatch(/for another name/)
  expect(failure('EPROTO')).toMatchObject({ kind: 'unknown' })
})

test('nobody at the address is notSent; a connection that broke, a timeout, a proxy’s page are unknown', () => {
  for (const code of ['ECONNREFUSED', 'ENOENT', 'ENOTFOUND'])
    expect(failureOf(Object.assign(new Error('x'), { code }))).toMatchObject({ kind: 'notSent' })
  for (const code of ['ECONNRESET', 'EPIPE', 'ETIMEDOUT'])
    expect(failureOf(Object.assign(new Error('x'), { code }))).toMatchObject({ kind: 'unknown' })
  for (const error of [new Error('Timeout error.'), new Error('<html>503</html>'), 'text', undefined])
    expect(failureOf(error)).toMatchObject({ kind: 'unknown' })
})
