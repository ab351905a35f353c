/** Writes the primitive types of Kafka's protocol (https://kafka.apache.org/protocol#protocol_types) one after the other. */
export class Encoder {
  private buffer: Buffer
  private at = 0

  constructor(size = 256) {
    this.buffer = Buffer.allocUnsafe(size)
  }

  int8(value: number): this {
    this.at = this.room(1).writeInt8(value, this.at)
    return this
  }

  int16(value: number): this {
    this.at = this.room(2).writeInt16BE(value, this.at)
    return this
  }

  int32(value: number): this {
    this.at = this.room(4).writeInt32BE(value, this.at)
    return this
  }

  /** Numbers up to 2^53, which no offset has reached yet. */
  int64(value: number): this {
    this.at = this.room(8).writeInt32BE(Math.floor(value / 0x1_0000_0000), this.at)
    this.at = this.buffer.writeUInt32BE(value >>> 0, this.at)
    return this
  }

  bigint64(value: bigint): this {
    this.at = this.room(8).writeBigInt64BE(value, this.at)
    return this
  }

  boolean(value: boolean): this {
    return this.int8(value ? 1 : 0)
  }

  string(value: string | null): this {
    if (value === null) return this.int16(-1)
    const length = Buffer.byteLength(value)
    this.int16(length)
    this.at += this.room(length).write(value, this.at)
    return this
  }

  bytes(value: Uint8Array | null): this {
    if (value === null) return this.int32(-1)
    this.int32(value.length)
    this.room(value.length).set(value, this.at)
    this.at += value.length
    return this
  }

  array<T>(values: readonly T[] | null, each: (value: T) => unknown): this {
    this.int32(values === null ? -1 : values.length)
    for (const value of values ?? []) each(value)
    return this
  }

  done(): Buffer {
    return this.buffer.subarray(0, this.at)
  }

  private room(bytes: number): Buffer {
    if (this.at + bytes > this.buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.at + bytes))
      this.buffer.copy(larger, 0, 0, this.at)
      this.buffer = larger
    }
    return this.buffer
  }
}

/** Reads the primitive types of Kafka's protocol one after the other. What it gives as bytes are views, not copies. */
export class Decoder {
  private readonly buffer: Buffer
  private at = 0

  constructor(buffer: Buffer) {
    this.buffer = buffer
  }

  int8(): number {
    return this.buffer.readInt8(this.step(1))
  }

  int16(): number {
    return this.buffer.readInt16BE(this.step(2))
  }

  int32(): number {
    return this.buffer.readInt32BE(this.step(4))
  }

  int64(): number {
    const at = this.step(8)
    return this.buffer.readInt32BE(at) * 0x1_0000_0000 + this.buffer.readUInt32BE(at + 4)
  }

  bigint64(): bigint {
    return this.buffer.readBigInt64BE(this.step(8))
  }

  boolean(): boolean {
    return this.int8() !== 0
  }

  string(): string | null {
    const length = this.int16()
    return length < 0 ? null : this.buffer.toString('utf8', this.step(length), this.at)
  }

  text(): string {
    return this.string() ?? ''
  }

  bytes(): Buffer | null {
    const length = this.int32()
    return length < 0 ? null : this.buffer.subarray(this.step(length), this.at)
  }

  array<T>(each: () => T): T[] {
    const length = this.int32()
    const values: T[] = []
    for (let i = 0; i < length; i++) values.push(each())
    return values
  }

  private step(bytes: number): number {
    const at = this.at
    this.at += bytes
    return at
  }
}
