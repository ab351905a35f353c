import { pipeline } from 'millrace'
import { scan } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { z } from 'zod'
import { events } from './events.ts'

const Seen = z.object({ ids: z.array(z.string()) })
const rows = events.pipe(
  scan({
    state: Seen,
    seed: { ids: [] },
    step: (seen, e) => {
      seen.ids.push(e.id)
      return seen
    },
    ttl: '1d',
  }),
)
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
