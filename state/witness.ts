import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs'
import { crc32 } from 'node:zlib'

/** What the witness file says: how far a store had come when it was last heard of. */
export interface Testimony {
  readonly store: string
  readonly commits: number
  /** The store was closed in order after that commit. */
  readonly closed: boolean
}

/** The small file beside the state file that notices when an older state file is put in its place (engine rule 13). */
export interface Witness {
  /** Notes the last commit. It is not synced: after a power cut the witness may be behind, and never ahead. */
  write(testimony: Testimony): void
  close(): void
}

const SLOT_BYTES = 512

/**
 * Opens the witness file for writing. Testimonies go by turns into two slots of one disk sector each, each with a
 * number and a checksum: a write that is torn harms one slot, and the other still says what was true just before.
 */
export function openWitness(path: string): Witness {
  let turn = slots(path).reduce((most, slot) => Math.max(most, slot.turn), 0)
  const file = openSync(path, turn === 0 ? 'w+' : 'r+')
  const buffer = Buffer.alloc(SLOT_BYTES)
  return {
    write(testimony) {
      turn += 1
      const text = JSON.stringify({ turn, ...testimony })
      buffer.fill(' ')
      buffer.write(`${crc32(text).toString(16).padStart(8, '0')} ${text}`)
      buffer[SLOT_BYTES - 1] = 0x0a
      writeSync(file, buffer, 0, SLOT_BYTES, (turn % 2) * SLOT_BYTES)
      if (testimony.closed) fsyncSync(file)
    },
    close: () => closeSync(file),
  }
}

/** The newest testimony that is whole; undefined when there is no file, or nothing in it can be read. */
export function readWitness(path: string): Testimony | undefined {
  return slots(path).sort((a, b) => b.turn - a.turn)[0]
}

function slots(path: string): (Testimony & { turn: number })[] {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch {
    return []
  }
  return [0, SLOT_BYTES].flatMap((at) => {
    const slot = bytes.toString('utf8', at, at + SLOT_BYTES).trimEnd()
    const text = slot.slice(9)
    return slot.length > 9 && crc32(text).toString(16).padStart(8, '0') === slot.slice(0, 8) ? [JSON.parse(text)] : []
  })
}
