import { MillraceError } from './errors.ts'

/** What stands before the entries of a state blob. Numbers are little-endian. */
export interface BlobHeader {
  /** Entries. */
  readonly count: number
  /** Milliseconds that an entry is kept after its time: `within`, `ttl`; 0 for timers. */
  readonly keep: number
  /** The smallest and the largest time of its entries; infinities when there are none. */
  readonly oldest: number
  readonly newest: number
}

/** Bytes of a header: `MRST`, count u32, keep f64, oldest f64, newest f64. */
export const HEADER_BYTES = 32
const MAGIC = 0x5453524d

/** A view of the same bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

export function writeHeader(view: DataView, header: BlobHeader): void {
  view.setUint32(0, MAGIC, true)
  view.setUint32(4, header.count, true)
  view.setFloat64(8, header.keep, true)
  view.setFloat64(16, header.oldest, true)
  view.setFloat64(24, header.newest, true)
}

/**
 * @throws MillraceError STATE_DAMAGED when the bytes are not a state blob's
 */
export function readHeader(format: string, bytes: Uint8Array): BlobHeader {
  if (bytes.byteLength < HEADER_BYTES)
    throw damaged(format, `it has ${bytes.byteLength} bytes, which is less than a header`)
  const view = viewOf(bytes)
  if (view.getUint32(0, true) !== MAGIC) throw damaged(format, 'it does not begin as one')
  return {
    count: view.getUint32(4, true),
    keep: view.getFloat64(8, true),
    oldest: view.getFloat64(16, true),
    newest: view.getFloat64(24, true),
  }
}

/**
 * Checks that a blob is in the one format that its reader knows, such as `table/1`.
 *
 * @throws MillraceError STATE_TOO_NEW for a later version, TOPOLOGY_CHANGED for another kind of state, STATE_DAMAGED otherwise
 */
export function requireFormat(format: string, known: string): void {
  if (format === known) return
  const [kind, version] = format.split('/')
  const [knownKind, knownVersion] = known.split('/')
  if (kind === knownKind && Number(version) > Number(knownVersion)) {
    throw new MillraceError(
      'STATE_TOO_NEW',
      `a state blob is in the format ${format}, and this version of Millrace reads ${known}: start the version that wrote it, or a later one`,
    )
  }
  if (kind !== knownKind && /^[a-z-]+\/\d+$/.test(format)) {
    throw new MillraceError(
      'TOPOLOGY_CHANGED',
      `a state blob is in the format ${format}, and the operator now keeps ${known}: give the operator a name of its own, or start with --drop-state`,
    )
  }
  throw new MillraceError(
    'STATE_DAMAGED',
    `a state blob says that its format is '${format.slice(0, 40)}', which no version of Millrace wrote: restore the state file from a copy`,
  )
}

/** The error of a blob whose bytes do not add up. */
export function damaged(format: string, how: string): MillraceError {
  return new MillraceError(
    'STATE_DAMAGED',
    `a state blob of the format ${format} is damaged: ${how}. Restore the state file from a copy`,
  )
}
