// Every text of the console: [English, Chinese]. Terms of the trade are those of the model; a test compares them.

/** What can be wrong with a device. */
export const CONDITIONS = {
  displaced: ["manhole cover open or displaced", "井盖开启或移位"],
  settled: ["manhole cover settled or loose", "井盖沉降或松动"],
  surcharged: ["drain surcharged", "排水管满溢"],
  surging: ["water level rising fast", "水位急涨"],
  flooded: ["standing water", "积水"],
  gas: ["dangerous gas, do not enter", "有害气体超限，禁止下井"],
  leaking: ["leakage current", "漏电"],
  tilted: ["pole tilted", "灯杆倾斜"],
  door_open: ["cabinet door open", "柜门未关"],
  lamp_out: ["lamp out", "灯具不亮"],
  overvoltage: ["voltage too high", "电压过高"],
  undervoltage: ["voltage too low", "电压过低"],
  overheated: ["temperature too high", "温度过高"],
  strong_wind: ["strong wind", "大风"],
  battery_low: ["battery low", "电池电量低"],
  sensor_stuck: ["sensor reading does not move", "传感器读数不变"],
  silent: ["device silent", "设备失联"],
  quota_exceeded: ["store quota exceeded, telemetry dropped", "存储配额已满，遥测数据被丢弃"],
};

/** What a device measures. */
export const POINTS = {
  cover_open: ["cover open", "井盖开启"],
  tilt_deg: ["tilt", "倾斜角"],
  level_mm: ["water level", "液位"],
  distance_mm: ["distance to the water", "空高"],
  water_present: ["water present", "水浸"],
  water_depth_mm: ["depth of water", "积水深度"],
  flow_velocity_m_s: ["flow velocity", "流速"],
  leakage_ma: ["leakage current", "漏电电流"],
  door_open: ["door open", "柜门开启"],
  lamp_on: ["lamp on", "灯亮"],
  dimming_percent: ["dimming", "调光"],
  battery_v: ["battery voltage", "电池电压"],
  battery_percent: ["battery charge", "电池电量"],
  signal_dbm: ["signal strength", "信号强度"],
  snr_db: ["signal-to-noise ratio", "信噪比"],
  temperature_c: ["temperature", "温度"],
  humidity_percent: ["relative humidity", "相对湿度"],
  pressure_kpa: ["air pressure", "气压"],
  wind_speed_m_s: ["wind speed", "风速"],
  wind_direction_deg: ["wind direction", "风向"],
  rainfall_mm: ["rainfall", "雨量"],
  illuminance_lx: ["illuminance", "照度"],
  noise_db: ["noise", "噪声"],
  pm2_5_ug_m3: ["PM2.5", "PM2.5"],
  pm10_ug_m3: ["PM10", "PM10"],
  ch4_lel_percent: ["methane", "甲烷"],
  h2s_mg_m3: ["hydrogen sulphide", "硫化氢"],
  co_mg_m3: ["carbon monoxide", "一氧化碳"],
  o2_percent: ["oxygen", "氧气"],
  voltage_v: ["voltage", "电压"],
  current_a: ["current", "电流"],
  active_power_w: ["active power", "有功功率"],
  apparent_power_va: ["apparent power", "视在功率"],
  reactive_power_var: ["reactive power", "无功功率"],
  power_factor: ["power factor", "功率因数"],
  frequency_hz: ["frequency", "频率"],
  energy_import_kwh: ["energy drawn", "正向电能"],
  energy_export_kwh: ["energy fed in", "反向电能"],
  energy_total_kwh: ["energy in all", "总电能"],
  vibration_count: ["vibrations counted", "震动计数"],
  settlement_count: ["settlements counted", "沉降计数"],
};

/** What a device is. */
export const KINDS = {
  manhole_cover: ["manhole cover", "智能井盖"],
  pole: ["smart pole", "智慧灯杆"],
  drain: ["drain level sensor", "排水液位计"],
  weather_station: ["weather station", "气象站"],
  meter: ["meter", "电表"],
  gateway: ["gateway", "网关"],
};

/** How a device is. */
export const STATUSES = {
  ok: ["OK", "正常"],
  alarm: ["alarm", "告警"],
  silent: ["silent", "失联"],
  unknown: ["never heard", "从未上报"],
};

/** Whether alarms of a device open cases. */
export const SERVICES = {
  in_service: ["in service", "在用"],
  commissioning: ["being installed", "调试"],
  maintenance: ["under maintenance", "维护"],
};

/** How much harm a condition can do. */
export const SEVERITIES = {
  critical: ["critical", "紧急"],
  major: ["major", "重要"],
  minor: ["minor", "一般"],
  notice: ["notice", "提示"],
};

/** Whether an alarm stands. */
export const ALARM_STATES = {
  active: ["active", "持续中"],
  stale: ["stale: no good data since", "待确认：无有效数据"],
  cleared: ["cleared", "已解除"],
};

/** Why an alarm opened no case. */
export const SUPPRESSIONS = {
  not_commissioned: ["no case: device not in service yet", "未生成案件：设备尚未投用"],
  maintenance: ["no case: device under maintenance", "未生成案件：设备维护中"],
  permit: ["no case: opening is permitted", "未生成案件：已获施工许可"],
  void: ["no case: made void by a person", "未生成案件：人工作废或结案"],
  no_case: ["no case: the profile asks for none", "未生成案件：设备模型规定不上报"],
};

/** Where a case stands. */
export const CASE_STATES = {
  pending: ["to be reported", "待上报"],
  reported: ["reported", "已上报"],
  accepted: ["accepted", "已受理"],
  filed: ["filed", "已立案"],
  dispatched: ["dispatched", "已派遣"],
  signed: ["signed", "已签收"],
  in_progress: ["being mended", "处置中"],
  done: ["mended, to be checked", "待核查"],
  closed: ["closed", "已结案"],
  rejected: ["rejected", "不予受理"],
  void: ["void", "已作废"],
  suspended: ["put off", "已挂账"],
  returned: ["sent back", "已回退"],
  duplicate: ["duplicate", "重复件"],
};

/** How far a reading can be trusted. */
export const QUALITIES = {
  good: ["good", "有效"],
  not_evaluated: ["not evaluated", "未检验"],
  suspect: ["suspect", "可疑"],
  bad: ["bad", "无效"],
  missing: ["missing", "缺失"],
};

/** Why a reading is not good. */
export const CAUSES = {
  range: ["outside the valid range", "超出有效范围"],
  stale: ["too old", "数据过期"],
  invalid: ["the device itself says so", "设备自报无效"],
  type: ["of another type than expected", "数据类型不符"],
  absent: ["not in the message", "报文中缺少"],
  read_failed: ["the bus did not give it", "总线读取失败"],
  derived: ["what it is computed from is not good", "计算依据无效"],
};

/** Where a message to somebody stands. */
export const DELIVERIES = {
  pending: ["waiting", "待发送"],
  attempted: ["tried, not confirmed", "已尝试，未确认"],
  delivered: ["delivered", "已送达"],
  dead: ["given up", "已放弃"],
};

/** How a component is. */
export const HEALTH = {
  ok: ["OK", "正常"],
  starting: ["starting", "启动中"],
  degraded: ["degraded", "降级"],
  down: ["down", "故障"],
};

/** Why a frame gave no readings. */
export const REASONS = {
  unknown_device: ["device not in the inventory", "设备未登记"],
  malformed: ["malformed", "格式错误"],
  no_points: ["no known point in it", "无可识别测点"],
  panic: ["the decoder failed", "解码器出错"],
};

/** Why a case was closed or made void: what detection is tuned by. */
export const OUTCOMES = {
  mended: ["mended", "已修复"],
  false_alarm: ["false alarm of the device", "设备误告警"],
  vehicle: ["run over by a vehicle", "车辆碾压告警"],
  cable_work: ["cable work", "施工放缆"],
  emergency_repair: ["emergency repair", "紧急抢修"],
  maintenance: ["maintenance of the device", "设备维护"],
  beyond_repair: ["cannot be mended", "无法修复"],
  other: ["other", "其他"],
};

/** Everything else. */
export const WORDS = {
  language: ["中文", "English"],
  gateway_time: ["gateway time", "网关时间"],
  simulated: ["simulated time \u00d7{speed}", "模拟时间 ×{speed}"],
  connected: ["connected", "已连接"],
  connecting: ["connecting", "连接中"],
  failing: ["error", "出错"],
  disconnected: ["no answer", "无应答"],
  no_answer: ["No answer from the gateway since {since}. What stands below is old.", "网关自 {since} 起无应答，以下内容已过时。"],
  error_answer: ["The gateway answers with an error since {since}: {error}. What stands below is old.", "网关自 {since} 起返回错误：{error}。以下内容已过时。"],
  open_now: ["the opening of this page", "页面打开时"],
  system_ok: ["all parts work", "各组件正常"],
  system_not_ok: ["{count} parts in trouble", "{count} 个组件异常"],
  overview: ["Overview", "总览"],
  alarms: ["Alarms that stand", "当前告警"],
  cases: ["Cases", "案件"],
  devices: ["Devices", "设备"],
  notices: ["Told to whom", "通知记录"],
  frames: ["Not recognised", "未识别"],
  map: ["Map", "地图"],
  components: ["Gateway, sources and sinks", "网关、数据源与输出端"],
  unknown_devices: ["Unknown devices", "未登记设备"],
  undecoded: ["Undecoded frames", "未解码报文"],
  tile_devices: ["devices", "设备"],
  tile_alarms: ["alarms standing", "当前告警"],
  tile_cases: ["cases open", "未结案件"],
  tile_unknown: ["unknown devices", "未登记设备"],
  tile_undecoded: ["undecoded frames", "未解码报文"],
  tile_outbox: ["waiting to be sent", "待发送"],
  severity: ["Severity", "级别"],
  what: ["What", "情况"],
  device: ["Device", "设备"],
  place: ["Place", "地点"],
  since: ["Since", "发生时间"],
  standing: ["State", "状态"],
  case: ["Case", "案件"],
  state: ["State", "状态"],
  unit: ["Responsible unit", "责任单位"],
  platform: ["Platform", "平台"],
  platform_number: ["Platform number", "平台编号"],
  signed_by: ["Signed by", "签收人"],
  opened: ["Opened", "生成时间"],
  channel: ["Channel", "渠道"],
  message: ["Message", "内容"],
  step: ["Step", "升级步骤"],
  delivery: ["Delivery", "投递"],
  time: ["Time", "时间"],
  component: ["Part", "组件"],
  detail: ["Detail", "说明"],
  status: ["Status", "状态"],
  kind: ["Kind", "类型"],
  heard: ["Last heard", "最近上报"],
  point: ["Point", "测点"],
  value: ["Value", "读数"],
  quality: ["Quality", "质量"],
  observed: ["Measured", "测量时间"],
  who: ["Who", "人员"],
  note: ["Note", "备注"],
  source: ["Source", "数据源"],
  address: ["Address", "地址"],
  first_seen: ["First seen", "首次出现"],
  last_seen: ["Last seen", "最近出现"],
  count: ["Frames", "报文数"],
  payload: ["Content", "报文内容"],
  reason: ["Why", "原因"],
  received: ["Received", "接收时间"],
  profile: ["Profile", "设备模型"],
  service: ["Service", "使用状态"],
  grid: ["Grid", "单元网格"],
  component_code: ["Component code", "部件标识码"],
  position: ["Position", "坐标"],
  interval: ["Reports every", "上报间隔"],
  masked: ["Masked until", "屏蔽至"],
  explanation: ["Finding", "判定依据"],
  readings: ["Last readings", "最新读数"],
  history: ["History", "办理经过"],
  is_standing: ["still standing", "仍在持续"],
  is_over: ["over", "已恢复"],
  essential: ["essential", "关键"],
  no_such: ["{id} is not known here", "此处没有 {id}"],
  incident: ["{count} alarms, most likely one cause: {condition}, {parent}", "事件群：{parent}，{condition}，{count} 条告警，可能同一原因"],
  no_alarms: ["No alarm stands", "无告警"],
  no_cases: ["No case yet", "无案件"],
  no_notices: ["Nobody was told anything yet", "暂无通知"],
  no_devices: ["No device matches", "无匹配设备"],
  no_unknown: ["Every device that sends is in the inventory", "无未登记设备"],
  no_undecoded: ["Every frame was decoded", "无未解码报文"],
  no_readings: ["No reading yet", "暂无读数"],
  no_history: ["No history", "暂无经过"],
  no_positions: ["No device has a position", "设备均无坐标"],
  loading: ["Loading", "加载中"],
  acknowledge: ["Acknowledge", "确认"],
  acknowledged: ["acknowledged by {by}", "{by} 已确认"],
  sign: ["Sign", "签收"],
  move_dispatched: ["Dispatch", "派遣"],
  move_in_progress: ["Being mended", "开始处置"],
  move_done: ["Mended", "处置完成"],
  move_closed: ["Close", "结案"],
  move_void: ["Make void", "作废"],
  led_elsewhere: ["This case is led by {platform}: move it there", "该案件由 {platform} 办理，请在该平台操作"],
  case_over: ["This case is over", "案件已结束"],
  your_name: ["Your name", "姓名"],
  name_hint: ["With an account, the account's name counts.", "使用账号登录时，以账号名为准。"],
  name_missing: ["Enter your name.", "请填写姓名。"],
  note_missing: ["Say why in the note.", "请在备注中说明原因。"],
  refused: ["The gateway refused: {error}", "网关拒绝：{error}"],
  confirm: ["Confirm", "确定"],
  cancel: ["Cancel", "取消"],
  close: ["Close window", "关闭窗口"],
  search: ["Search id, name, place, unit", "搜索编号、名称、地点、责任单位"],
  all_statuses: ["All statuses", "全部状态"],
  all_kinds: ["All kinds", "全部类型"],
  previous: ["Previous", "上一页"],
  next: ["Next", "下一页"],
  page_of: ["{first}\u2013{last} of {count}", "第 {first}–{last} 台，共 {count} 台"],
  shown_of: ["{shown} of {count} shown, worst first", "共 {count} 条，显示最严重的 {shown} 条"],
  more_alarms: ["More than {count} alarms stand", "当前告警超过 {count} 条"],
  drawn_of: ["{drawn} of {count} devices drawn, alarms first", "共 {count} 台，绘制 {drawn} 台，告警优先"],
  zoom_in: ["Zoom in", "放大"],
  zoom_out: ["Zoom out", "缩小"],
  zoom_all: ["Show all", "全图"],
  never: ["never", "从未"],
  yes: ["yes", "是"],
  no: ["no", "否"],
};
