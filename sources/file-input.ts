import { type FileHandle, open, stat } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { createGunzip, type Gunzip } from 'node:zlib'
import { MillraceError } from '../core/errors.ts'
import type { Runtime } from '../core/runtime.ts'
import { Watch } from '../embedded/log-watch.ts'

/** Bytes in order, as they are asked for. */
export interface ByteInput {
  /** Puts bytes into `target` from `at`: how many, 0 at the end, -1 when there are none for now. */
  read(target: Buffer, at: number): Promise<number>
  /** Resolves when a further `read` may give something, or the signal aborts. */
  more(signal: AbortSignal): Promise<void>
  /** Passes over so many bytes without reading them; absent when they have to be read. */
  skip?(bytes: number): void
  /** How many bytes are left, as far as is known. */
  left(): Promise<number | undefined>
  close(): Promise<void>
}

const NOW_NONE = -1
const TAIL = 64

/** The bytes of a file, to its end or, when it is followed, for as long as it is the same file. */
export class FileInput implements ByteInput {
  readonly #path: string
  readonly #handle: FileHandle
  readonly #watch: Watch | undefined
  readonly #end: number
  #at = 0
  #tail: Buffer = Buffer.alloc(0)
  #atHead = false

  private constructor(path: string, handle: FileHandle, options: { watch: Watch | undefined; end: number }) {
    this.#path = path
    this.#handle = handle
    this.#watch = options.watch
    this.#end = options.end
  }

  /** @param end where to stop, in bytes; without it, a file that is not followed ends where it ends */
  static async open(
    path: string,
    { follow, end, runtime }: { follow: boolean; end?: number; runtime: Runtime },
  ): Promise<FileInput> {
    const handle = await open(path, 'r').catch((error) => {
      throw fileError(path, error)
    })
    const watch = follow ? new Watch(path, runtime) : undefined
    return new FileInput(path, handle, { watch, end: end ?? Number.POSITIVE_INFINITY })
  }

  async read(target: Buffer, at: number): Promise<number> {
    if (this.#atHead) await this.#compareTail()
    const room = Math.min(target.length - at, this.#end - this.#at)
    if (room <= 0) return 0
    const { bytesRead } = await this.#handle.read(target, at, room, this.#at).catch((error) => {
      throw fileError(this.#path, error)
    })
    if (bytesRead > 0) {
      this.#at += bytesRead
      if (this.#watch) this.#tail = Buffer.from(target.subarray(Math.max(at, at + bytesRead - TAIL), at + bytesRead))
      return bytesRead
    }
    await this.#checkSize()
    if (this.#watch === undefined) return 0
    await this.#checkSame()
    this.#atHead = true
    return NOW_NONE
  }

  async more(signal: AbortSignal): Promise<void> {
    await this.#watch?.until(async () => {
      const { size } = await this.#handle.stat()
      if (size !== this.#at) return true
      return this.#checkSame().then(
        () => false,
        () => true,
      )
    }, signal)
  }

  skip(bytes: number): void {
    this.#at += bytes
  }

  async left(): Promise<number> {
    return Math.max(0, Math.min(this.#end, (await this.#handle.stat()).size) - this.#at)
  }

  async close(): Promise<void> {
    this.#watch?.close()
    await this.#handle.close()
  }

  async #checkSize(): Promise<void> {
    const { size } = await this.#handle.stat()
    if (size < this.#at) throw changed(this.#path, `it was cut to ${size} bytes, and ${this.#at} had been read`)
  }

  async #checkSame(): Promise<void> {
    const opened = await this.#handle.stat()
    const there = await stat(this.#path).catch(() => undefined)
    if (there !== undefined && (there.ino !== opened.ino || there.dev !== opened.dev)) {
      throw changed(this.#path, 'another file has taken its place')
    }
  }

  /** A file that was cut and has grown again since is told by the bytes that were read last. */
  async #compareTail(): Promise<void> {
    this.#atHead = false
    await this.#checkSize()
    const now = Buffer.alloc(this.#tail.length)
    await this.#handle.read(now, 0, now.length, this.#at - now.length)
    if (!now.equals(this.#tail)) throw changed(this.#path, `what stands before byte ${this.#at} was written anew`)
  }
}

/** The bytes of standard input or a pipe. They come once. */
export class StreamInput implements ByteInput {
  readonly #stream: Readable
  readonly #name: string
  #error: Error | undefined
  #ended = false
  #wake: (() => void) | undefined
  readonly #onReadable = () => this.#wake?.()
  readonly #onEnd = () => {
    this.#ended = true
    this.#wake?.()
  }
  readonly #onError = (error: Error) => {
    this.#error = error
    this.#wake?.()
  }

  constructor(stream: Readable, name: string) {
    this.#stream = stream
    this.#name = name
    this.#ended = stream.readableEnded || stream.destroyed
    stream.on('readable', this.#onReadable)
    stream.on('end', this.#onEnd)
    stream.on('close', this.#onEnd)
    stream.on('error', this.#onError)
  }

  async read(target: Buffer, at: number): Promise<number> {
    const buffered = this.#stream.readableLength
    const chunk: Buffer | null =
      buffered === 0 ? this.#stream.read(0) : this.#stream.read(Math.min(buffered, target.length - at))
    if (chunk !== null) return chunk.copy(target, at)
    if (this.#error) throw fileError(this.#name, this.#error)
    return this.#ended ? 0 : NOW_NONE
  }

  more(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted || this.#ended || this.#error || this.#stream.readableLength > 0) return resolve()
      const done = () => {
        this.#wake = undefined
        signal.removeEventListener('abort', done)
        resolve()
      }
      this.#wake = done
      signal.addEventListener('abort', done, { once: true })
    })
  }

  async left(): Promise<undefined> {
    return undefined
  }

  async close(): Promise<void> {
    this.#wake?.()
    this.#stream.off('readable', this.#onReadable)
    this.#stream.off('end', this.#onEnd)
    this.#stream.off('close', this.#onEnd)
    this.#stream.pause()
    // An error that comes now has nobody to tell; without a listener it would end the process.
    if (this.#stream !== process.stdin) this.#stream.destroy()
  }
}

const PACKED = 32_768
/** What was unpacked of a piece of this size is lost when the archive turns out to be damaged within it. */
const OUT = 16_384

/** The bytes inside a gzip archive of one or more members; an input that is no archive is passed on as it is. */
export class GunzipInput implements ByteInput {
  readonly #input: ByteInput
  readonly #name: string
  readonly #packed = Buffer.allocUnsafeSlow(PACKED)
  readonly #out: Buffer[] = []
  #outAt = 0
  #packedLength = 0
  #gunzip: Gunzip | undefined
  #mode: 'unknown' | 'plain' | 'gzip' = 'unknown'
  #done = false
  #error: Error | undefined

  constructor(input: ByteInput, name: string) {
    this.#input = input
    this.#name = name
  }

  async read(target: Buffer, at: number): Promise<number> {
    for (;;) {
      const taken = this.#take(target, at)
      if (taken > 0) return taken
      if (this.#error) throw this.#damaged(this.#error)
      if (this.#done) return 0
      if (this.#mode === 'plain') return this.#input.read(target, at)
      const read = await this.#input.read(this.#packed, this.#packedLength)
      if (read === NOW_NONE) return NOW_NONE
      this.#packedLength += read
      if (this.#mode === 'unknown') {
        if (read > 0 && this.#packedLength < 2) continue
        this.#choose()
      }
      if (this.#gunzip) await this.#unpack(this.#gunzip, read === 0)
    }
  }

  more(signal: AbortSignal): Promise<void> {
    return this.#out.length > 0 || this.#done ? Promise.resolve() : this.#input.more(signal)
  }

  /** How many bytes are inside is not known before they are unpacked; the packed ones are less, and go to 0 with them. */
  async left(): Promise<number | undefined> {
    const ready = this.#out.reduce((sum, chunk) => sum + chunk.length, -this.#outAt)
    const packed = await this.#input.left()
    return packed === undefined ? undefined : packed + ready
  }

  async close(): Promise<void> {
    this.#gunzip?.destroy()
    await this.#input.close()
  }

  #take(target: Buffer, at: number): number {
    let to = at
    for (let chunk = this.#out[0]; chunk !== undefined && to < target.length; chunk = this.#out[0]) {
      const copied = chunk.copy(target, to, this.#outAt)
      to += copied
      this.#outAt += copied
      if (this.#outAt < chunk.length) break
      this.#out.shift()
      this.#outAt = 0
    }
    return to - at
  }

  #choose(): void {
    const head = Buffer.from(this.#packed.subarray(0, this.#packedLength))
    if (!isGzip(head)) {
      this.#mode = 'plain'
      if (head.length > 0) this.#out.push(head)
      return
    }
    this.#mode = 'gzip'
    this.#gunzip = createGunzip({ chunkSize: OUT })
    this.#gunzip.on('data', (chunk: Buffer) => this.#out.push(chunk))
    // Also heard by each call below; this one keeps a late one from ending the process.
    this.#gunzip.on('error', (error) => {
      this.#error = error
    })
  }

  async #unpack(gunzip: Gunzip, last: boolean): Promise<void> {
    // The unpacker reads from these bytes until it calls back; only then are they used again.
    const packed = this.#packed.subarray(0, this.#packedLength)
    this.#packedLength = 0
    const before = gunzip.bytesWritten
    if (!gunzip.readableEnded && !this.#error) {
      await new Promise<void>((resolve) => {
        const done = () => {
          gunzip.off('error', done).off('end', done)
          resolve()
        }
        gunzip.once('error', done).once('end', done)
        if (last) gunzip.end()
        else gunzip.write(packed, done)
      })
    }
    // Behind an archive there may be zeros, which tapes and blocks are filled up with; the unpacker ends at them.
    if (!this.#error && packed.subarray(gunzip.bytesWritten - before).some((byte) => byte !== 0)) {
      this.#error = new Error('what follows it is no archive')
    }
    this.#done = last && !this.#error
  }

  #damaged(cause: Error): MillraceError {
    return new MillraceError(
      'SOURCE_FAILED',
      `${this.#name}: the gzip archive is cut off or damaged (${cause.message}); the whole lines before that were read: ` +
        'put a whole archive in its place, and it goes on',
      { cause },
    )
  }
}

/** Whether bytes begin as a gzip archive does. */
export function isGzip(head: Uint8Array): boolean {
  return head[0] === 0x1f && head[1] === 0x8b
}

/** The error of a failed call on a file. */
export function fileError(path: string, error: unknown): MillraceError {
  if (error instanceof MillraceError) return error
  const { code = 'an error' } = error as NodeJS.ErrnoException
  if (code === 'ENOENT') {
    return new MillraceError(
      'NOT_FOUND',
      `${path}: there is no such file; see to the path, or name another with --input`,
      { cause: error },
    )
  }
  return new MillraceError('SOURCE_FAILED', `${path}: it cannot be read (${code}); see to its rights and its disk`, {
    cause: error,
  })
}

/** The error of a file that is not the one that a position belongs to. */
export function changed(path: string, what: string): MillraceError {
  return new MillraceError(
    'SOURCE_CHANGED',
    `${path}: ${what}; put the former file back, or start anew with another data directory`,
  )
}
