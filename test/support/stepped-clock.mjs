/*
 * Loaded before a program, it steps the clock as that program sees it: at each SIGUSR2 by the next of CLOCK_STEPS, in seconds from
 * the machine's own clock, over and over. Timers go on as they were: they have a clock that never steps.
 */
const steps = (process.env.CLOCK_STEPS ?? '').split(',').map(Number);
const MachineDate = Date;
let taken = 0;
let offsetMs = 0;

process.on('SIGUSR2', () => {
  offsetMs = 1000 * (steps[taken % steps.length] ?? 0);
  taken += 1;
});

globalThis.Date = class extends MachineDate {
  static now() {
    return MachineDate.now() + offsetMs;
  }

  constructor(...parts) {
    if (parts.length === 0) super(MachineDate.now() + offsetMs);
    else super(...parts);
  }
};
