'use strict';
function decodeUplink(input) {
  undeclared = input.bytes[0];
  return { data: { level: undeclared } };
}
