import { checkFile } from '../../cli/check/check-file.ts'

/** Checks the files that the command line names, and prints a line of JSON for each. */
const [types, ...files] = process.argv.slice(2)
for (const file of files) {
  const [path = '', ...inputs] = file.split(' ')
  process.stdout.write(`${JSON.stringify(await checkFile(path, { types: types === 'types', inputs }))}\n`)
}
