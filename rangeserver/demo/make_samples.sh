#!/bin/sh
# Makes the sample files anew. Needs ffmpeg with libx264, libvpx and libopus, and the fonts
# DejaVu Sans and Noto Sans CJK. The demo itself needs none of these: its files are in samples/.
set -eu
cd "$(dirname "$0")"
out=samples
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run() { ffmpeg -hide_banner -loglevel error -y -bitexact "$@"; }

# A clock face of diameter 400 with sixty marks, and the dot that goes round it.
run -f lavfi -i "color=white:s=420x420,format=rgba,geq=r=255:g=255:b=255:a='
  st(0,hypot(X-210,Y-210)); st(1,mod(atan2(Y-210,X-210)*30/PI+60,60));
  st(2,abs(ld(1)-round(ld(1)))*ld(0)*PI/30); st(3,eq(mod(round(ld(1)),5),0));
  80*clip(1.8-abs(ld(0)-198),0,1)
  +(90+110*ld(3))*clip(1.5+0.7*ld(3)-ld(2),0,1)*between(ld(0),184-8*ld(3),190)'" \
  -frames:v 1 "$work/face.png"
run -f lavfi -i "color=white:s=32x32,format=rgba,geq=r=255:g=255:b=255:a='
  255*clip(13-hypot(X-15.5,Y-15.5),0,1)'" -frames:v 1 "$work/dot.png"

# picture SECONDS SIZE GRADIENT TITLE: a filter graph that ends in [v]. The hue goes once round
# from start to end, so each place in the file has a colour of its own.
picture() {
  seconds=$1 size=$2 gradient=$3 title=$4 font=${5:-DejaVu Sans}
  height=${size#*x}
  unit="$height/540"
  cat <<GRAPH
gradients=s=$size:r=25:d=$seconds:seed=7:$gradient,format=yuv444p,
  hue=h=360*t/$seconds[back];
[0:v]scale=iw*$unit:-1[face];
[1:v]scale=iw*$unit:-1[dot];
color=white:s=$size:r=25:d=$seconds[bar];
[back][face]overlay=(W-w)/2:(H-h)/2:shortest=0[a];
[a][dot]overlay=x='W/2-w/2+198*$unit*sin(2*PI*t/$seconds)'
  :y='H/2-h/2-198*$unit*cos(2*PI*t/$seconds)'[b];
[b][bar]overlay=x='-W+W*t/$seconds':y=H-8*$unit[c];
[c]drawtext=font=DejaVu Sans Mono:fontcolor=white:fontsize=72*$unit
  :x=(w-text_w)/2:y=(h-text_h)/2-14*$unit
  :text='%{eif\\:trunc(t/60)\\:d\\:2}\\:%{eif\\:mod(trunc(t),60)\\:d\\:2}.%{eif\\:mod(trunc(t*10),10)\\:d}',
 drawtext=font=DejaVu Sans Mono:fontcolor=white@0.75:fontsize=22*$unit
  :x=(w-text_w)/2:y=h/2+48*$unit:text='frame %{frame_num}',
 drawtext=font=$font:fontcolor=white@0.9:fontsize=24*$unit:x=28*$unit:y=26*$unit:text='$title',
 format=yuv420p,trim=duration=$seconds[v]
GRAPH
}

# A note each second, from a scale of five.
notes() {
  echo "aevalsrc=d=$1:s=48000:exprs='0.3*exp(-3*mod(t,1))*sin(2*PI*t*$2
    *pow(2,(st(0,mod(floor(t)*3,5))*0+3*eq(ld(0),1)+5*eq(ld(0),2)+7*eq(ld(0),3)+10*eq(ld(0),4))/12))
    *clip(mod(t,1)*80,0,1)'[s]"
}

# make SECONDS SIZE GRADIENT TITLE TONE OPTIONS...
make() {
  seconds=$1 size=$2 gradient=$3 title=$4 tone=$5
  shift 5
  { picture "$seconds" "$size" "$gradient" "$title" "${font:-}"; echo ";"; notes "$seconds" "$tone"; } \
    > "$work/graph"
  run -loop 1 -framerate 25 -i "$work/face.png" -loop 1 -framerate 25 -i "$work/dot.png" \
    -filter_complex_script "$work/graph" -map "[v]" -map "[s]" -t "$seconds" -ac 1 "$@"
}

h264="-c:v libx264 -profile:v main -level 3.1 -preset slow -pix_fmt yuv420p"

make 60 960x540 "x0=0:y0=540:x1=960:y1=0:c0=0x11163f:c1=0x4a2a7a:c2=0xa83a6b:c3=0xc2703d:nb_colors=4:speed=0.012" \
  "One minute, H.264 and AAC" 220 \
  $h264 -b:v 382k -maxrate 700k -bufsize 1400k -g 50 -c:a aac -b:a 48k -movflags +faststart \
  "$out/one-minute.mp4"

make 20 640x360 "x0=320:y0=180:x1=0:y1=0:c0=0x1b6f8f:c1=0x14487a:c2=0x12254f:c3=0x0a1128:nb_colors=4:speed=0.02:t=radial" \
  "VP9 and Opus" 262 \
  -c:v libvpx-vp9 -b:v 160k -g 50 -row-mt 1 -deadline good -cpu-used 2 -c:a libopus -b:a 32k \
  "$out/twenty-seconds.webm"

mkdir -p "$out/hls"
rm -f "$out"/hls/*
make 30 640x360 "x0=0:y0=360:x1=640:y1=0:c0=0x0c2b2a:c1=0x1e5945:c2=0x3f7d4a:c3=0x8a8f3c:nb_colors=4:speed=0.015" \
  "HLS, six segments" 196 \
  $h264 -crf 25 -maxrate 220k -bufsize 800k -g 125 -keyint_min 125 -sc_threshold 0 \
  -c:a aac -b:a 32k -f hls -hls_time 5 -hls_playlist_type vod \
  -hls_segment_filename "$out/hls/segment-%d.ts" "$out/hls/index.m3u8"

font="Noto Sans CJK KR" \
  make 10 640x360 "x0=0:y0=360:x1=640:y1=0:c0=0x1d1147:c1=0x51248f:c2=0x9c2f7f:c3=0xc4554d:nb_colors=4:speed=0.02" \
  "한국어 이름을 가진 파일" 294 \
  $h264 -crf 25 -g 50 -c:a aac -b:a 32k -movflags +faststart "$out/한국어 동영상.mp4"

run -f lavfi -i "mandelbrot=s=2400x1500:start_x=-0.7436:start_y=0.13183:start_scale=0.004:maxiter=1200:inner=period" \
  -vf "scale=1200:750:flags=area,hue=h=215:s=0.55,eq=brightness=-0.08:contrast=1.1" -frames:v 1 -q:v 12 "$out/fractal.jpg"

du -sh "$out"
