for(const svg of document.querySelectorAll('svg[data-hover]')){
const rows=JSON.parse(svg.dataset.hover),figure=svg.closest('figure');
if(!rows.length)continue;
const tip=document.createElement('div');tip.className='tip';figure.append(tip);
const line=document.createElementNS(svg.namespaceURI,'line');
line.setAttribute('class','cursor');line.setAttribute('y1',12);line.setAttribute('y2',240);line.style.display='none';svg.append(line);
svg.addEventListener('pointermove',event=>{
const box=svg.getBoundingClientRect(),at=(event.clientX-box.left)/box.width*760;
const row=rows.reduce((a,b)=>Math.abs(b[0]-at)<Math.abs(a[0]-at)?b:a);
line.setAttribute('x1',row[0]);line.setAttribute('x2',row[0]);line.style.display='';
tip.textContent=row[1];tip.style.display='block';
const x=row[0]/760*box.width,outer=figure.getBoundingClientRect();
tip.style.top=(box.top-outer.top+8)+'px';
tip.style.left=Math.min(x+24,outer.width-tip.offsetWidth-8)+'px';
});
svg.addEventListener('pointerleave',()=>{tip.style.display='none';line.style.display='none'});
}
