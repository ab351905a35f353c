import { fork } from 'node:child_process'
import type { Outcome } from '../../core/sink.ts'

/** Runs `sink-writer.ts` and kills it with SIGKILL a moment after so many answers. */
export async function killedWriter(
  kind: string,
  dataDir: string,
  answers: number,
  moment = 0,
): Promise<{ /** Answered for. */ batches: number; receipt: string | undefined }> {
  const child = fork(new URL('./sink-writer.ts', import.meta.url), [kind, dataDir], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    execArgv: [],
  })
  return new Promise((resolve, reject) => {
    let batches = 0
    let receipt: string | undefined
    child.on('message', ({ n, outcome }: { n: number; outcome: Outcome }) => {
      if (outcome.kind !== 'applied') return reject(new Error(`batch ${n} was ${outcome.kind}`))
      batches = n + 1
      receipt = outcome.receipt
      if (batches === answers) setTimeout(() => child.kill('SIGKILL'), moment)
    })
    child.on('exit', (code) =>
      batches < answers ? reject(new Error(`it ended early, with ${code}`)) : resolve({ batches, receipt }),
    )
  })
}
