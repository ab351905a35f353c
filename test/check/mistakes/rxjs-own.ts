import { pipeline } from 'millrace'
import { file } from 'millrace/sinks'
import { Observable } from 'rxjs'
import { events } from './events.ts'

const pairs = <T>(source: Observable<T>) =>
  new Observable<readonly T[]>((to) => {
    let last: readonly T[] = []
    return source.subscribe({
      next: (e) => {
        last = [...last.slice(-1), e]
        to.next(last)
      },
      complete: () => to.complete(),
    })
  })
const rows = events.pipe(pairs)
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
