import type { Delivery, OpenSink, Outcome, Sink } from '../../core/sink.ts'

/** A sink that counts what it is given by name, as a system that absorbs repeats would. */
export interface CountingSink extends Sink<unknown> {
  /** Rows of all batches, each batch once. */
  readonly rows: number
  /** Requests, by the names of their batches. */
  readonly requests: readonly Delivery[]
  /** All rows' texts in the order in which they took effect. */
  readonly lines: readonly string[]
}

export interface CountingSinkOptions
  extends Partial<Pick<OpenSink<unknown>, 'group' | 'limit' | 'pace' | 'guarantee' | 'attach' | 'identity'>> {
  /** Decides what becomes of a request; a batch takes effect when it is `applied`, or `unknown` with `took`. */
  readonly answer?: (delivery: Delivery, signal: AbortSignal) => Promise<Outcome & { readonly took?: boolean }>
  /** Keeps the texts of rows. @default true */
  readonly keep?: boolean
}

export function countingSink({
  answer = async () => ({ kind: 'applied' }),
  keep = true,
  ...open
}: CountingSinkOptions = {}): CountingSink {
  const applied = new Set<string>()
  const requests: Delivery[] = []
  const lines: string[] = []
  let rows = 0
  return {
    kind: 'counting',
    guarantee: 'idempotent',
    touches: 'state',
    requests,
    lines,
    get rows() {
      return rows
    },
    open: async () => ({
      identity: 'counting',
      encoder: () => ({ head: 'json', row: (value) => `${JSON.stringify(value)}\n` }),
      async deliver(delivery, signal) {
        requests.push(keep ? delivery : { ...delivery, body: new Uint8Array(0) })
        const { took, ...outcome } = await answer(delivery, signal)
        if ((outcome.kind === 'applied' || took) && !applied.has(delivery.name)) {
          applied.add(delivery.name)
          const bad = new Set(outcome.kind === 'applied' ? outcome.rejected?.map(({ row }) => row) : [])
          rows += delivery.rows - bad.size
          if (keep)
            lines.push(
              ...Buffer.from(delivery.body)
                .toString()
                .trimEnd()
                .split('\n')
                .filter((_, row) => !bad.has(row)),
            )
        }
        return outcome
      },
      close: async () => undefined,
      ...open,
    }),
  }
}
