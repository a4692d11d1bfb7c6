# 控制台中文。

## 菜单与框架
menu = 页面
menu-watch = 观察
menu-balance = 负载均衡
menu-directors = 调度器
menu-console = 控制台
menu-overview = 概览
menu-events = 事件
menu-services = 虚拟服务
skip = 跳到内容
you-are-here = 当前位置
find = 查找服务、服务器、VIP
sign-out = 退出登录
revision = 修订版 { $count }
on-trial = 修订版 { $count } 正在试运行。如果无人保留，旧配置会自动恢复。
role-viewer = 只读用户
role-operator = 操作员
role-administrator = 管理员
colon = ：
of = { $part } / { $whole }
show = 显示
save = 保存
reason = 原因
leave-it = 保持不变

## 时长
span-days = { $count } 天
span-hours = { $count } 小时
span-minutes = { $count } 分
span-seconds = { $count } 秒

## 概览
overview-good = 一切正常
overview-attention = { $count } 项需要处理
overview-services = { $count } 个虚拟服务
overview-reals = { $all } 台真实服务器中 { $serving } 台接受连接
needs-attention = 需要处理
most-urgent-first = 最紧急的在前
and-more = 另有 { $count } 项
all-services = 全部服务
no-service-yet = 还没有虚拟服务。
no-service-yet-remedy = 可用 viaduct apply FILE 应用配置，或用 viaduct ipvsadm -A 添加服务。
what-changed-last = 最近变更
no-event = 还没有事件。
this-director = 本调度器
fact-connections = 连接
fact-workers = 报文线程
fact-revision = 配置修订版
fact-drained = 已排空的真实服务器
look-at = 查看 { $name }
attention-store = 无法存储，变更被拒绝
attention-real-down = { $service }：真实服务器 { $real } 故障
attention-suspected = { $service }：真实服务器 { $real } 似乎设置有误
attention-draining = { $service }：{ $real } 正在排空
attention-vrrp = VRRP 实例 { $name } 有故障
connections-remain = { $count ->
    [0] 没有剩余连接。
   *[other] 剩余 { $count } 个连接。
 }

## 状态
state = 状态
every-state = 全部状态
tone-bad = 故障
tone-warn = 降级
tone-drain = 进行中
tone-good = 健康
tone-off = 已下线
state-healthy = 健康
state-unchecked = 未检查
state-untested = 待检测
state-down = 故障
state-draining = 排空中
state-drained = 已排空
state-sorry = 备用服务器应答
state-weight-0 = 权重 0
state-overloaded = 超过上限
service-empty = 没有真实服务器
service-sorry = 备用服务器应答
service-down = 故障
service-one-left = 只剩一台服务器
service-some-down = { $count } 台服务器故障
service-suspected = { $count } 台服务器设置有误
service-some-drained = { $count } 台服务器已排空
service-untested = 待检测
service-healthy = 全部健康

## 虚拟服务
service = 服务
address = 地址
method = 转发方式
method-nat = 地址转换
method-full-nat = 完全地址转换
method-dr = 直接路由
method-tunnel = 隧道
method-local = 本机
healthy-of = 健康
connections = 连接
sort-by = 排序
sort-state = 最差的在前
sort-name = 按名称
sort-open = 连接最多的在前
none-found = 没有匹配项。
range = 第 { $first } 至 { $last } 项，共 { $whole } 项
page-before = 上一页
page-after = 下一页
no-service = 没有名为“{ $name }”的服务。
no-service-but = 没有名为“{ $name }”的服务。是否要找“{ $nearest }”？

## 单个服务
real-servers = 真实服务器
no-real-server = 该服务没有真实服务器，客户端得不到应答。
server = 服务器
weight = 权重
weight-of = { $real } 的权重
share = 占比
actions = 操作
persistence = 持久连接 { $count } 秒
put-back = 恢复上线
cut-now = 立即断开…
drain = 排空…
force-out = 强制下线…
replies-bypass = 应答不经过调度器，因此只统计进入的流量。
exact-on-hover = 悬停显示精确值
all-events = 全部事件
down-since = 自 { $since } 起故障，已 { $span }。
drained-by = 自 { $since } 起由 { $author } 下线。
drained-because = 原因：“{ $reason }”。
cut-in = { $span } 后断开。

## 排空与强制下线
drain-title = 排空 { $service } 的 { $real }
force-out-title = 将 { $real } 从 { $service } 强制下线
drain-does-new = 不再接收新连接。
drain-does-open = 现有的 { $open } 个连接继续，直到结束或到达截止时间。
force-out-does-open = 现有的 { $open } 个连接立即断开。
drain-does-checks = 健康检查继续；有关它的告警静默。
drain-last = 它是 { $service } 最后一台接受连接的真实服务器：客户端将得不到应答，或由备用服务器应答。
drain-within = 多久后断开剩余连接
drain-never = 从不
drain-within-hint = 届时仍存在的连接将被断开。
drain-persistent = 它的 { $count } 个持久客户端
drain-persistent-move = 立即转到其他真实服务器
drain-persistent-keep = 保留到超时为止
drain-do = 排空 { $real }
force-out-do = 强制下线 { $real }，断开 { $open } 个连接
bad-duration = “{ $value }”不是带单位的时长，例如 10m。

## 事件
severity = 严重程度
every-severity = 全部
severity-warning = 警告和错误
severity-error = 错误
subject = 服务、服务器、接口
older = 更早

## 初始化与登录
setup-title = 初始化控制台
setup-explain = 这将创建第一个管理员。
setup-code = 初始化码
setup-code-hint = 初始化码在守护进程的日志里；viaduct user setup-code 也会显示。
setup-do = 初始化
setup-wrong-code = 初始化码不对。输错三次后会更换。
login-title = 登录
login-do = 登录
login-wrong = 用户名、密码或验证码不对。
user-name = 用户名
password = 密码
password-length = 密码至少 { $count } 个字符。
name-rule = 名称为 1 至 64 个字母、数字、点、横线或下划线。
second-factor = 第二因素验证码
second-factor-hint = 仅在已设置时需要。

## 错误
error-sign-in = 没有登录，或会话已结束。
error-role = 这需要{ $role }角色。
error-foreign = 请求不是来自本控制台的页面。
error-wait = 错误次数过多，请在 { $count } 秒后重试。
error-400 = 请求无效
error-400-remedy = 请返回更正。没有任何变更。
error-401 = 请登录
error-401-remedy = 没有任何变更。
error-403 = 不允许
error-403-remedy = 没有任何变更。管理员可以调整角色。
error-404 = 这里没有内容
error-404-remedy = 可能已被删除或改名。概览显示现有内容。
error-409 = 已被他人更改
error-409-remedy = 请查看现状后再决定。您的变更没有应用。
error-413 = 内容过大
error-413-remedy = 没有任何变更。
error-429 = 过于频繁
error-429-remedy = 请等待后重试。
error-500 = 控制台内部出错
error-500-remedy = 转发继续。守护进程的日志有更多信息。
error-503 = 守护进程暂时无法处理
error-503-remedy = 请稍后重试。转发继续。
error-507 = 无法存储
error-507-remedy = 磁盘可能已满：viaduct doctor 会说明办法。转发继续，没有任何变更。
