import fc from 'fast-check'
import { expect, test } from 'vitest'
import { chaskey, type Fingerprinter, fingerprinter } from '../../core/fingerprint.ts'

const KEY = Int32Array.of(0x833d3433, 0x009f389f, 0x2398e64f, 0x417acf39)
const OTHER = Int32Array.of(1, 2, 3, 4)

function hex(fingerprint: Fingerprinter, text: string): string {
  fingerprint.of(text)
  return [fingerprint.h0, fingerprint.h1, fingerprint.h2, fingerprint.h3]
    .map((word) => (word >>> 0).toString(16).padStart(8, '0'))
    .join(' ')
}

test.each([
  [0, '43cb1f41 51eba0c2 ff0a8ac3 7ee3f642'],
  [1, 'f9ac2067 9c35a846 441aad3d 777b7330'],
  [3, '8c5e6ab9 5035adfb bff69f98 965516d9'],
  [4, '0b2b62db 1e9e3f50 a1b8dcad b4279ae0'],
  [7, 'b7d29cb8 40a2819d ae403cdb 6fbefa95'],
  [8, '9faf57d6 f4bc02cf 6af6d831 d2930d90'],
  [12, 'c040258c f25392c0 9f6b5dc0 35c3d638'],
  [15, '03cfb44b 283c8163 fca71448 c40a0aea'],
  [16, '5dd0e2a9 fb5eac8c 633a392e 500c36f3'],
  [17, '8b5f6d5a 202314f6 22092368 9639e606'],
  [32, '77962784 07c647fa dd752c0f d2f5a799'],
  [63, '2dd072e1 42b89efe fb26b615 049aa451'],
])('gives the published Chaskey-12 tag of %i bytes', (length, tag) => {
  const text = String.fromCharCode(...Array.from({ length }, (_, i) => i))
  expect(hex(chaskey(KEY, OTHER), text)).toBe(tag)
})

test('keeps texts apart that differ in one unit, lone surrogates included', () => {
  const fingerprint = fingerprinter(new Uint8Array(32))
  const seen = new Map<string, string>()
  const texts = [
    '',
    '\0',
    '\0\0',
    '\u0001',
    'é',
    'e\u0301',
    '\ud800',
    '\udc00',
    '\ufffd',
    '😀',
    'ab',
    'ba',
    '\u6162',
    'a\0',
    '\u0100',
    '\u0001\0',
  ]
  fc.assert(
    fc.property(
      fc.oneof(
        fc.constantFrom(...texts),
        fc.string({
          unit: fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)),
          maxLength: 40,
        }),
      ),
      (text) => {
        const print = hex(fingerprint, text)
        expect(hex(fingerprint, text)).toBe(print)
        expect(seen.get(print) ?? text).toBe(text)
        seen.set(print, text)
      },
    ),
    { numRuns: 2_000 },
  )
  expect(seen.size).toBeGreaterThan(500)
})

test('gives other fingerprints under another secret, of wide texts too', () => {
  const a = fingerprinter(Uint8Array.of(1))
  const b = fingerprinter(Uint8Array.of(2))
  for (const text of ['', 'key', 'ключ']) expect(hex(a, text)).not.toBe(hex(b, text))
})
