// Names of the console that mean something else here.
function Converter(scale) {
  this.scale = scale;
}
Converter.prototype.of = function (value) {
  return value * this.scale;
};
function Decoder(bytes, port) {
  return { level: new Converter(3).of(bytes[0]) };
}
