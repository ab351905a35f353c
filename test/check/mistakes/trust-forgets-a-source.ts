import { merge, pipeline } from 'millrace'
import { patch, reconcile } from 'millrace/operators'
import { file } from 'millrace/sinks'
import { events } from './events.ts'

const shop = events.pipe(patch((e) => ({ spent: e.amount })))
const web = events.pipe(patch((e) => ({ seen: e.at })))
const people = merge({ shop, web }).pipe(reconcile({ trust: ['shop'] }))
export const mine = pipeline('mine', { people: people.to(file({ path: 'people.jsonl' })) })
