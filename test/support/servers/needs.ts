/** What the title of a suite that was skipped for want of a server goes on with: the summary lists such a suite once. */
export const NEEDS = ' [needs '
