/** A known way to break the engine: a change of one place in one file, made when a simulation loads it, and nowhere else. */
export interface Mutant {
  readonly name: string
  /** The rule of the engine that it breaks, in words. */
  readonly breaks: string
  readonly changes: readonly { readonly file: string; readonly from: string; readonly to: string }[]
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'no life in names',
    breaks: 'a store that was put back uses names again, and sinks take new batches for repeats',
    changes: [
      {
        file: 'core/task.ts',
        from: '`${this.life}/${this.id}/${this.epoch + 1}/',
        to: '`life/${this.id}/${this.epoch + 1}/',
      },
    ],
  },
  {
    name: 'delivered before it is committed',
    breaks: 'what was delivered and not committed is made again under another name',
    changes: [
      {
        file: 'core/task.ts',
        from: '    this.begun = true\n    for (const position',
        to: '    for (const { batch, lane, samples } of staged) lane.add(batch, samples)\n    staged.length = 0\n    this.begun = true\n    for (const position',
      },
    ],
  },
  {
    name: 'no fence',
    breaks: 'two workers commit one task',
    changes: [
      {
        file: 'state/memory.ts',
        from: 'task.fence !== change.fence',
        to: 'task.fence < change.fence',
      },
      { file: 'state/refusal.ts', from: 'epoch !== task.epoch + 1', to: 'epoch < 0' },
    ],
  },
  {
    name: 'a retry has a new name',
    breaks: 'a batch that took effect, and whose answer was lost, takes effect again',
    changes: [
      {
        file: 'core/lane.ts',
        from: '      const delivery: Delivery = {\n        name,',
        to: '      const delivery: Delivery = {\n        name: `${name}/${attempt}`,',
      },
    ],
  },
  {
    name: 'unknown is taken for applied',
    breaks: 'a request that was lost is not sent again',
    changes: [
      {
        file: 'core/lane.ts',
        from: "      if (outcome.kind === 'unknown') afterUnknown = true",
        to: "      if (outcome.kind === 'unknown') return this.applied(members, undefined, [], body)",
      },
    ],
  },
  {
    name: 'a rejection for now is one for good',
    breaks: 'rows that would have been taken later are dead letters',
    changes: [
      {
        file: 'core/lane.ts',
        from: "outcome.kind === 'rejected' && outcome.retry === 'never'",
        to: "outcome.kind === 'rejected'",
      },
    ],
  },
  {
    name: 'a group is not recorded',
    breaks: 'after a crash its batches take effect again under their own names',
    changes: [
      {
        file: 'core/lane.ts',
        from: 'lanes: [{ sink: this.output, group: { name, members: members.map((batch) => batch.name) } }]',
        to: 'lanes: []',
      },
    ],
  },
  {
    name: 'an attempt is recorded after it was made',
    breaks: 'a sink that cannot tell repeats gets what it may have had, and nobody knows',
    changes: [
      {
        file: 'core/lane.ts',
        from: 'attempts: members.map((batch) => batch.name) }],',
        to: 'attempts: [] }],',
      },
    ],
  },
  {
    name: 'state is not undone',
    breaks: 'a record that failed leaves its half behind',
    changes: [
      {
        file: 'core/journal.ts',
        from: 'notes.pop()!.undo()',
        to: 'notes.pop()',
      },
    ],
  },
  {
    name: 'rows are not undone',
    breaks: 'a record that failed behind its first row is delivered and set aside',
    changes: [
      {
        file: 'core/task.ts',
        from: 'staging[i]!.rows.length = rows',
        to: 'void rows',
      },
    ],
  },
  {
    name: 'positions without state',
    breaks: 'after a restart operators have forgotten',
    changes: [
      {
        file: 'core/task.ts',
        from: '      blobs.push({ slot: structure.slot, format: structure.state.format, bytes })',
        to: '      void bytes',
      },
    ],
  },
  {
    name: 'state without positions',
    breaks: 'records are read again after their effects were committed',
    changes: [
      {
        file: 'core/task.ts',
        from: '    place.next = record.next\n',
        to: '    place.next = record.position\n',
      },
    ],
  },
  {
    name: 'a timer is due at its time',
    breaks: 'what happens at exactly the end of a wait comes too late',
    changes: [
      {
        file: 'core/flow.ts',
        from: 'timer.time < watermark',
        to: 'timer.time <= watermark + 1',
      },
    ],
  },
  {
    name: 'the watermark forgets lateness',
    breaks: 'what comes out of order comes too late',
    changes: [
      {
        file: 'core/task.ts',
        from: 'time - this.options.sources[source]!.lateness',
        to: 'time',
      },
    ],
  },
  {
    name: 'an idle source runs ahead',
    breaks: 'a source that nobody has heard of for a moment is past all waits',
    changes: [
      {
        file: 'core/watermark.ts',
        from: 'Math.max(0, now - clock.lastArrival)',
        to: 'now',
      },
    ],
  },
  {
    name: 'asynchronous flows forget when records came',
    breaks: 'an idle source runs ahead behind mapAsync',
    changes: [
      {
        file: 'core/task.ts',
        from: '    this.clocks[source]!.lastArrival = element?.stamp ?? intake.stamp\n',
        to: '    if (this.flow.synchronous) this.clocks[source]!.lastArrival = element?.stamp ?? intake.stamp\n',
      },
    ],
  },
  {
    name: 'an asynchronous run that was given up is not undone',
    breaks: 'its records are repeats in the second attempt',
    changes: [
      {
        file: 'core/task.ts',
        from: '      this.journal.undoTo(0)\n      this.clearStaging()\n',
        to: '      this.clearStaging()\n',
      },
    ],
  },
  {
    name: 'an asynchronous epoch forgets who failed',
    breaks: 'what failed behind mapAsync is in no dead letter',
    changes: [
      {
        file: 'core/task.ts',
        from: '      failures.push(...this.flow.asyncFailures)\n',
        to: '',
      },
    ],
  },
  {
    name: 'the remainder goes to the end',
    breaks: 'rows overtake one another behind a rejection',
    changes: [
      {
        file: 'core/lane.ts',
        from: 'this.batches.unshift(rest)',
        to: 'this.batches.push(rest)',
      },
    ],
  },
  {
    name: 'one of a group is enough',
    breaks: 'the rest of a group that was applied is sent again under other names',
    changes: [
      {
        file: 'core/lane.ts',
        from: 'remove: members.map((batch) => batch.name),',
        to: 'remove: [members[0]!.name],',
      },
    ],
  },
  {
    name: 'compaction leaves a blob out',
    breaks: 'what was kept in it is forgotten at a restart',
    changes: [{ file: 'core/task.ts', from: 'blobs: ids,', to: 'blobs: ids.slice(1),' }],
  },
]
