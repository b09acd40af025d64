// The clock stands at the frame's time, in UTC, and random numbers follow from the frame.
function decodeUplink(input) {
  var now = new Date();
  var day = new Date(2026, 0, 31, 8, 30);
  return {
    data: {
      now: now.toISOString(), same: Date.now() === now.getTime() && +new Date() === Date.now(), called: Date().slice(0, 15),
      hours: now.getHours(), offset: now.getTimezoneOffset(), text: String(now), locale: now.toLocaleString(),
      local: day.toISOString(), parsed: new Date('2026-01-31T08:30:00').toISOString(),
      zoned: new Date('2026-01-31T08:30:00+08:00').toISOString(), day: new Date('2026-01-31').getTime(),
      loose: new Date('31 Jan 2026 08:30').toISOString(), copied: new Date(day).getTime() === day.getTime(),
      seconds: new Date(1767225600 * 1000).toJSON(), invalid: isNaN(new Date('nonsense')), date: day,
      isDate: day instanceof Date && Object.prototype.toString.call(day), year: day.getYear(),
      shifted: new Date(day.setHours(day.getHours() + 1)).toISOString(), utc: Date.UTC(2026, 0, 1),
      received: input.recvTime.getTime() === Date.now() && input.recvTime instanceof Date,
      random: [Math.random(), Math.random()], performance: typeof performance, timer: typeof setTimeout,
      sorted: [new Date(2), new Date(1)].sort(function (a, b) { return a - b; })[0].getTime()
    }
  };
}
