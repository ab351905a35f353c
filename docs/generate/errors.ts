import { ERROR_CODES } from '../../core/errors.ts'

/** The page of all error codes, from their one list. */
export function errorsPage(): string {
  const rows = Object.entries(ERROR_CODES)
    .map(([code, { exit, meaning }]) => ({ code, exit, meaning }))
    .sort((a, b) => a.exit - b.exit || (a.code < b.code ? -1 : 1))
  return `# Errors

Every error of Millrace has a code, and a message that says where, what, and what to do next. A command that fails prints
\`error CODE: message\` on standard error and ends with the exit code below; \`MILLRACE_DEBUG=1\` adds the stack. Codes with
exit code 1 are reasons of dead letters: they do not end a run.

| exit | code | what it means |
|---:|---|---|
${rows.map(({ code, exit, meaning }) => `| ${exit} | \`${code}\` | ${meaning} |`).join('\n')}

A command that ended well, or was drained by one signal, ends with 0; one that a second signal ended at once, with 129
(SIGHUP), 130 (SIGINT) or 143 (SIGTERM).
`
}
