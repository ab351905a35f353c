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
    name: 'compaction keeps the first blob only',
    breaks: 'what was kept in it is forgotten at a restart',
    changes: [{ file: 'core/task.ts', from: 'blobs: ids,', to: 'blobs: ids.slice(0, 1),' }],
  },
  {
    name: 'batches that were attempted are sent together',
    breaks: 'what took effect under a name of its own takes effect again under a group’s',
    changes: [
      { file: 'core/lane.ts', from: 'if (!group || !head.fresh) return [head]', to: 'if (!group) return [head]' },
      { file: 'core/lane.ts', from: 'if (!batch.fresh || batch.head', to: 'if (batch.head' },
      { file: 'state/refusal.ts', from: 'find(name)!.group !== undefined || find(name)!.attempts > 0', to: 'false' },
    ],
  },
  {
    name: 'a group is taken apart in memory only',
    breaks: 'after a crash, members that took effect alone are sent again with it',
    changes: [
      {
        file: 'core/lane.ts',
        from: 'lanes: [{ sink: this.output, ungroup: name }]',
        to: 'lanes: []',
      },
    ],
  },
  {
    name: 'a remainder leaves its dead letters behind',
    breaks: 'rows that were refused are nowhere',
    changes: [{ file: 'core/lane.ts', from: 'lanes: [change], deadLetters: letters', to: 'lanes: [change]' }],
  },
  {
    name: 'rows that an applied batch left out are forgotten',
    breaks: 'rows that were refused are nowhere',
    changes: [
      {
        file: 'core/lane.ts',
        from: 'rejected.length === 0 ? [] : rowLetters(members[0]!, body, rejected, now)',
        to: '[] as ReturnType<typeof rowLetters>',
      },
    ],
  },
  {
    name: 'receipts are not stored',
    breaks: 'a file is cut back to less than what was answered for',
    changes: [
      {
        file: 'core/lane.ts',
        from: '...(receipt === undefined ? {} : { receipt }) },\n      letters',
        to: '},\n      letters',
      },
    ],
  },
  {
    name: 'what lanes have done is lost with a failed epoch',
    breaks: 'a later receipt stands beside an earlier batch, which is appended again',
    changes: [{ file: 'core/task.ts', from: '    this.pending.unshift(...lanes)\n', to: '    void lanes\n' }],
  },
  {
    name: 'an unknown commit is taken for done',
    breaks: 'what was lost is built upon',
    changes: [
      {
        file: 'core/task.ts',
        from: '      this.committed(seal, result)\n    })',
        to: "      this.committed(seal, result.kind === 'unknown' ? { kind: 'committed', blobs: seal.changed.map(() => 0), compacted: seal.installing.map(() => 0) } : result)\n    })",
      },
    ],
  },
  {
    name: 'a full lane takes more',
    breaks: 'disks fill up behind a sink that is down',
    changes: [{ file: 'core/task.ts', from: 'if (this.laneFull()) {', to: 'if (false) {' }],
  },
  {
    name: 'a lane forgets what is on its way to it',
    breaks: 'epochs that are being written do not count against the bound of a lane that parks',
    changes: [
      {
        file: 'core/lane.ts',
        from: '  expect(batch: StagedBatch): void {\n    this.bytes += batch.body.length',
        to: '  expect(batch: StagedBatch): void {\n    void batch',
      },
      {
        file: 'core/lane.ts',
        from: '    const { body, ...rest } = batch\n    const kept',
        to: '    const { body, ...rest } = batch\n    this.bytes += body.length\n    const kept',
      },
    ],
  },
  {
    name: 'what a full lane does not take is dropped',
    breaks: 'rows are nowhere',
    changes: [
      {
        file: 'core/task.ts',
        from: '    this.letters.push(...letters)\n    this.totals.deadLetters += letters.length\n    lane.state',
        to: '    lane.state',
      },
    ],
  },
  {
    name: 'a full epoch forgets the timers that are left',
    breaks: 'waits that the end of a source is the end of are never over',
    changes: [
      {
        file: 'core/task.ts',
        from: 'if (this.stagedBytes >= this.mostBytes) return false',
        to: 'if (this.stagedBytes >= this.mostBytes) break',
      },
    ],
  },
  {
    name: 'timers fire in the order in which they were set',
    breaks: 'rows of a task are out of order, and a wait is over before one that began it',
    changes: [
      {
        file: 'core/timers.ts',
        from: '    if (difference !== 0) return difference < 0\n',
        to: '    if (difference !== 0) return orders[a]! < orders[b]!\n',
      },
    ],
  },
  {
    name: 'a timer that fails is dropped',
    breaks: 'a wait that was over is nowhere',
    changes: [
      {
        file: 'core/task.ts',
        from: '    this.letters.push({\n      source: `timer ${timer}`,',
        to: '    ;[].push({\n      source: `timer ${timer}`,',
      },
    ],
  },
  {
    name: 'the watermark overtakes records that wait',
    breaks: 'what is asked about comes after the waits that it ends',
    changes: [
      {
        file: 'core/flow.ts',
        from: 'this.segments[level + 1]!.queue.push(slot)',
        to: "this.segments[level + 1]!.queue[slot.entries.length === 0 ? 'unshift' : 'push'](slot)",
      },
    ],
  },
  {
    name: 'a call may take for ever',
    breaks: 'one record that is never answered for keeps all others waiting',
    changes: [{ file: 'core/calls.ts', from: 'this.runtime.elapsed() + this.work.timeout', to: 'Infinity' }],
  },
  {
    name: 'versions are epochs',
    breaks: 'after a store was put back, last-write-wins ignores what is written',
    changes: [{ file: 'core/task.ts', from: 'Math.max(this.version + 1, stamp * 1024)', to: 'this.epoch + 1' }],
  },
  {
    name: 'a message’s key is of the moment',
    breaks: 'after a store was put back, people are written to again',
    changes: [
      {
        file: 'core/element.ts',
        from: '`${this.source}/${this.timerKey}/${this.position}`',
        to: '`${this.source}/${this.timerKey}/${this.position}/${this.stamp}`',
      },
    ],
  },
  {
    name: 'a value that was changed survives its undoing',
    breaks: 'what a function did to its arguments before it failed is state',
    changes: [
      {
        file: 'core/table.ts',
        from: '        hot.dirty = false\n        forget(hot)',
        to: '        hot.dirty = false',
      },
      {
        file: 'core/table.ts',
        from: '      hot.value = undefined\n      if (text === ENTRY)',
        to: '      if (text === ENTRY)',
      },
    ],
  },
  {
    name: 'the clock of the machine',
    breaks: 'a simulation, a test and a replay do not own the time',
    changes: [{ file: 'core/task.ts', from: 'stagedAt: runtime.now(),', to: 'stagedAt: Date.now(),' }],
  },
  {
    name: 'the chance of the machine',
    breaks: 'a simulation cannot be run again',
    changes: [{ file: 'core/lane.ts', from: 'host.runtime.random()', to: 'Math.random()' }],
  },
  {
    name: 'a source that ended is read on without a word',
    breaks: 'its timers have fired as if nothing more would come',
    changes: [
      { file: 'core/task.ts', from: 'if (more !== null && more.length > 0) {', to: 'if (more === undefined) {' },
    ],
  },
  {
    name: 'the end is for good',
    breaks: 'a source that is read on is late in everything',
    changes: [
      {
        file: 'core/task.ts',
        from: '        if (segment.clock.watermark === Infinity) segment.clock.watermark = this.taskWatermark()',
        to: '        void segment',
      },
    ],
  },
  {
    name: 'deaths are not counted',
    breaks: 'a record that kills the process kills it for ever',
    changes: [{ file: 'core/task.ts', from: 'deaths <= DEATHS.suspicious', to: 'deaths <= 1_000_000' }],
  },
  {
    name: 'a death takes the first record',
    breaks: 'records that killed nobody are set aside',
    changes: [
      { file: 'core/task.ts', from: 'deaths <= DEATHS.suspicious', to: 'deaths <= 1' },
      { file: 'core/task.ts', from: 'times >= DEATHS.alone', to: 'times >= 1' },
    ],
  },
  {
    name: 'dead keys are known',
    breaks: 'a dedup drops what is no repeat any more, by what housekeeping has left',
    changes: [
      {
        file: 'core/expiring-set.ts',
        from: "if (old + within > watermark) return 'present'",
        to: "if (old > NEVER) return 'present'",
      },
    ],
  },
  {
    name: 'what cannot be judged passes',
    breaks: 'a repeat that is too late passes for a first',
    changes: [{ file: 'core/expiring-set.ts', from: "if (time + within <= watermark) return 'expired'", to: '' }],
  },
  {
    name: 'a source that cannot be read is at its head',
    breaks: 'time goes on past records that are there',
    changes: [
      {
        file: 'core/intake.ts',
        from: '        this.atHead = false\n        await this.runtime.sleep(',
        to: '        this.atHead = true\n        this.asked = asked\n        await this.runtime.sleep(',
      },
    ],
  },
  {
    name: 'a stopped worker trusts what it knew',
    breaks: 'what came while it was stopped comes too late',
    changes: [
      { file: 'core/task.ts', from: 'open.filter((intake) => intake.headAt < at)', to: 'open.filter(() => false)' },
      { file: 'core/task.ts', from: 'Math.min(now, intake.headAt)', to: 'now' },
    ],
  },
  {
    name: 'the time of a stop is a call’s',
    breaks: 'records whose answer is there are set aside when a worker goes on that was stopped',
    changes: [
      { file: 'core/calls.ts', from: 'if (-left > STOOD_STILL) {', to: 'if (-left > Infinity) {' },
      { file: 'core/calls.ts', from: '      await this.runtime.yield()\n', to: '' },
    ],
  },
  {
    name: 'the watermark is not stored',
    breaks: 'after a restart, what is late passes',
    changes: [
      { file: 'core/task.ts', from: 'watermark: stored(clock.watermark),', to: 'watermark: null,' },
      { file: 'core/task.ts', from: 'maxTime: stored(clock.maxTime),', to: 'maxTime: null,' },

      {
        file: 'core/task.ts',
        from: 'watermarks: this.flow.segments.map((segment) => stored(segment.clock.watermark)),',
        to: 'watermarks: [],',
      },
    ],
  },
  {
    name: 'an end is taken before all was read',
    breaks: 'what is still in the intake is lost',
    changes: [
      { file: 'core/intake.ts', from: 'return this.finished && this.chunks.length === 0', to: 'return this.finished' },
    ],
  },
]
