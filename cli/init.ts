import { Command } from 'commander'

const PAGE = `
Examples:
  millrace init my-pipelines
  cd my-pipelines && npm install && npm start && npm test

What is written: a pipeline of some fifteen lines, a sample of events, a test, and what npm, TypeScript, git, an editor and
continuous integration want to know.

Exit codes: 0 written · 2 the folder is not empty
`

/** `millrace init DIR`. */
export function initCommand(): Command {
  return new Command('init')
    .description('Write a project of your own: a pipeline that runs, with its test.')
    .argument('<dir>', 'a folder that is empty or not there')
    .option('--from <SPEC>', 'what npm is to install millrace from: a version, a tarball, a folder')
    .addHelpText('after', PAGE)
    .action(async (dir, options) => (await import('./make-project.ts')).makeProject(dir, options))
}
