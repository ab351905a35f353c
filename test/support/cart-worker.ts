/** Runs the cart pipeline on a file to its end, in a process of its own that a test may kill: `cart-worker.ts DATA FILE`. */
import { cartAbandonment } from '../../pipelines/cart-abandonment.ts'
import { fileSource } from '../../sources/file.ts'
import { runToEnd } from './run.ts'

const [dataDir = '', path = ''] = process.argv.slice(2)
await runToEnd(cartAbandonment, dataDir, { 'shop.events': fileSource({ path }) })
