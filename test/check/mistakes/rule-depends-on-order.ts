import { merge, pipeline } from 'millrace'
import { patch, reconcile } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const said = events.pipe(patch((e) => ({ spent: e.amount })))
const people = merge({ shop: said }).pipe(reconcile({ trust: ['shop'], fields: { spent: (a, b) => a + b } }))
export const mine = pipeline('mine', { people: people.to(file({ path: 'people.jsonl' })) })
