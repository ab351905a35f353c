/**
 * How much a piece of state holds, as properties that are worked out when they are asked for. Getters in an object literal
 * are made anew with each object: V8 then looks all its properties up by name, and keeps what their functions see until
 * the next full collection.
 */
export class Amounts {
  private readonly of: { memory(): number; size(): number; live(): number }

  constructor(of: { memory(): number; size(): number; live(): number }) {
    this.of = of
  }

  /** Bytes held in memory, about. */
  get memory(): number {
    return this.of.memory()
  }

  /** Live entries, about. */
  get size(): number {
    return this.of.size()
  }

  /** Bytes that they would take in one blob, about. */
  get live(): number {
    return this.of.live()
  }
}
