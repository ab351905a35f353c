/**
 * A ClickHouse for tests: `node clickhouse-process.ts FOLDER PORT CONFIG USER PASSWORD`. It is the engine of the embedded
 * warehouse, on a port of its own and with a configuration, so that it has macros, clusters and, with a ZooKeeper,
 * replicas. It lets in one user, as a server does.
 */
import { createServer } from 'node:http'
import { openEngine } from '../../../embedded/warehouse-engine.ts'
import { clickHouseHttp } from '../../../embedded/warehouse-http.ts'

const [folder, port, config, user, password] = process.argv.slice(2)
const engine = await openEngine(folder!, config)
const answer = clickHouseHttp(engine, () => process.exit(1))
const basic = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`

const server = createServer({ keepAliveTimeout: 3_000, requestTimeout: 0 }, (request, response) => {
  const { authorization, 'x-clickhouse-user': name, 'x-clickhouse-key': key } = request.headers
  if (authorization === basic || (name === user && key === password)) return answer(request, response)
  request.resume()
  response.writeHead(403, { 'X-ClickHouse-Exception-Code': '516' })
  response.end(
    `Code: 516. DB::Exception: ${name ?? 'default'}: Authentication failed: password is incorrect, or there is no user with such name. (AUTHENTICATION_FAILED)\n`,
  )
})
server.listen(Number(port), '127.0.0.1', () => process.stdout.write('ready\n'))
