import { writeFileSync } from 'node:fs'
import { dashboards } from './dashboards.ts'

/** `npm run dashboards`: writes what Grafana is given. */
for (const [name, text] of dashboards()) writeFileSync(new URL(name, import.meta.url), text)
