import { pipeline } from 'millrace'
import { file } from 'millrace/sinks'
import { Observable } from 'rxjs'
import { events } from './events.ts'

const doubled = <T>(source: Observable<T>) =>
  new Observable<readonly T[]>((to) => source.subscribe((e) => to.next([e, e])))
const rows = events.pipe(doubled)
export const mine = pipeline('mine', { rows: rows.to(file({ path: 'rows.jsonl' })) })
